//! Sales in the OpenAPI document.

use utoipa::openapi::Ref;
use utoipa::openapi::path::OperationBuilder;
use utoipa::openapi::schema::ComponentsBuilder;

use super::plan::FIELDS;
use super::shapes::{IncompleteDays, OrderValues, Sales, SalesGroup, SalesMeta, SalesMethod};
use crate::api::openapi::parameters::{identifier, in_path, list_of, parameter, range, words};
use crate::api::openapi::{READING, answer, json_of, with_problems};
use crate::api::problem::Problem;

/// Adds the schemas of sales.
pub fn schemas(components: ComponentsBuilder) -> ComponentsBuilder {
    components
        .schema_from::<Sales>()
        .schema_from::<SalesGroup>()
        .schema_from::<OrderValues>()
        .schema_from::<SalesMeta>()
        .schema_from::<IncompleteDays>()
        .schema_from::<SalesMethod>()
}

#[must_use]
pub fn sales() -> OperationBuilder {
    let operation = OperationBuilder::new()
        .operation_id(Some("sales"))
        .tag("sales")
        .summary(Some("A tenant's sales by day, hour, product or category"))
        .description(Some(
            "Orders, units and revenue are exact at either precision and exclude cancelled and refunded \
             orders. With `precision=exact`, the number of unique customers and the order values are \
             computed from every sale and are exact too; the value at a percentile is one that occurs. With \
             `approx`, both come from sketches that the server maintains with the orders, and \
             `error_bounds` gives their error. Currencies are never added together: each has its own \
             groups. A day (UTC) is incomplete if retention has deleted orders or sums that its figures \
             require. A range with a beginning that contains an incomplete day is 410. A range without a \
             beginning does not count incomplete days, and `incomplete_days` reports them; it is 410 only if \
             it has sales and all of them are on incomplete days.",
        ))
        .parameter(in_path("tenant", "The tenant that owns the orders.", identifier()))
        .parameter(parameter("group_by", "Default: `day`.", words(&["day", "hour", "product", "category"])))
        .parameter(parameter("precision", "Default: `exact`.", words(&["exact", "approx"])))
        .parameter(parameter(
            "currency",
            "Only sales in this currency, ISO 4217.",
            Ref::from_schema_name("CurrencyCode"),
        ))
        .parameter(parameter(
            "fields",
            "Figures to return: any of orders, units, revenue, unique_customers and order_value, separated \
             by commas. Without the last two, an exact response does not read individual sales.",
            list_of(FIELDS),
        ))
        .response(
            "200",
            answer(
                "The groups and the method by which they were computed.",
                json_of("Sales"),
                "application/json",
            ),
        );
    with_problems(range(operation), &[READING, &[Problem::QueryTooLarge, Problem::SalesDropped]].concat())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::{sales, schemas};
    use crate::api::openapi::document_of;
    use crate::base::money::Currency;
    use crate::http::Method;
    use crate::sales::plan::{Materialized, SalesPlan};
    use crate::sales::query::{self, Figures, SalesGroup, SalesResult};

    const PATH: &str = "/api/v1/tenants/{tenant}/metrics/sales";

    fn parsed() -> Value {
        document_of(&[(PATH, Method::Get, sales)], &[schemas])
    }

    fn keys(object: &Value) -> BTreeSet<String> {
        object.as_object().unwrap().keys().cloned().collect()
    }

    #[test]
    fn shapes_are_described_as_they_are_sent() {
        let plan = SalesPlan::new("t", Some("precision=approx")).unwrap();
        let figures = Figures { orders: 1, units: 1, revenue: 100, details: Some((1, [100; 3])) };
        let currency = Currency::parse("USD").unwrap();
        let group = SalesGroup { start_us: 0, name: String::new(), currency, figures };
        let result = SalesResult {
            groups: vec![group],
            rows_scanned: 1,
            preaggregated: true,
            estimated: true,
            incomplete: Some(query::IncompleteDays { count: 1, first_us: 0, last_us: 0 }),
            complete_from_us: Some(0),
        };
        let sales: Value =
            serde_json::from_slice(&Materialized::new(&plan, &result, 0).json(false, 1)).unwrap();
        for (object, schema) in [
            (&sales, "Sales"),
            (&sales["groups"][0], "SalesGroup"),
            (&sales["groups"][0]["order_value"], "OrderValues"),
            (&sales["meta"], "SalesMeta"),
            (&sales["meta"]["incomplete_days"], "IncompleteDays"),
            (&sales["meta"]["method"], "SalesMethod"),
        ] {
            let described = &parsed()["components"]["schemas"][schema]["properties"];
            assert_eq!(keys(object), keys(described), "{schema}");
        }
    }

    #[test]
    fn every_parameter_that_is_described_is_understood() {
        let document = parsed();
        let parameters = document["paths"][PATH]["get"]["parameters"].as_array().unwrap();
        let of_query = parameters.iter().filter(|parameter| parameter["in"] == "query");
        let described: BTreeSet<&str> =
            of_query.map(|parameter| parameter["name"].as_str().unwrap()).collect();
        let errors = SalesPlan::new("t", Some("nothing_has_this_name=1")).unwrap_err();
        let known = errors[0].detail.rsplit("the known parameters are ").next().unwrap();
        assert_eq!(described, known.split(", ").collect());
    }
}

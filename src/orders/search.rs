//! Order search: parses a query string into a search plan.

use super::read::{ORDER_FIELDS, OneCustomer, OneOrder, OrderFilter};
use super::status::OrderStatus;
use crate::base::keys::{KeyHash, KeyHasher};
use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX};
use crate::base::money::{Currency, parse_bound};
use crate::query::{Filter, ParameterError, Parameters, Period};
use crate::shard::read::TimeRange;

/// The default number of orders in a response.
const LIMIT: usize = 1_000;
/// The maximum number of orders in a response.
pub(super) const LIMIT_MAX: usize = 100_000;
/// The maximum number of products in one search.
const PRODUCTS_MAX: usize = 50;
/// The maximum number of words in one search.
const WORDS_MAX: usize = 10;
/// The maximum number of bytes in a word.
const WORD_BYTES_MAX: usize = 100;
/// The default fields of an order: all except the time of receipt.
const FIELDS: u16 = (1 << 11) - 1;

const _: () = assert!(ORDER_FIELDS.len() == 12);

/// The plan for one search.
#[derive(Clone, Debug)]
pub(super) struct SearchPlan {
    pub of: OrderFilter,
    pub range: TimeRange,
    pub limit: usize,
    pub cursor: Option<String>,
}

impl SearchPlan {
    /// Parses the query string of `…/orders/search`.
    pub(super) fn new(
        tenant_id: &str,
        query: Option<&str>,
        keys: &KeyHasher,
    ) -> Result<SearchPlan, Vec<ParameterError>> {
        let known = &[
            "order_id",
            "customer_id",
            "product_id",
            "category",
            "min_price",
            "max_price",
            "currency",
            "min_total",
            "max_total",
            "status",
            "q",
            "fields",
            "limit",
            "cursor",
        ];
        let mut parameters = Parameters::with_period(query, known);
        let products = list(&mut parameters, "product_id");
        let (mut of, range) = order_filter(tenant_id, keys, &mut parameters, products);
        of.fields = fields(&mut parameters);
        let limit = parameters.number("limit", 1, LIMIT_MAX).unwrap_or(LIMIT);
        let cursor = parameters.value("cursor");
        parameters.done(SearchPlan { of, range, limit, cursor })
    }
}

/// Returns the filter that selects one of a tenant's orders with all its fields, and the hash that selects its shard.
#[must_use]
pub(super) fn one_order(tenant_id: &str, order_id: &str, keys: &KeyHasher) -> (Filter, KeyHash) {
    let (mut of, range) = order_filter(tenant_id, keys, &mut Parameters::read(None, &[]), Vec::new());
    let order = one(tenant_id, order_id.to_owned(), keys);
    let key = order.key;
    of.fields = (1 << ORDER_FIELDS.len()) - 1;
    of.order = Some(order);
    (Filter::new(of, range), key)
}

fn one(tenant_id: &str, order_id: String, keys: &KeyHasher) -> OneOrder {
    let key = keys.hash(tenant_id, &order_id);
    OneOrder { order_id, key }
}

/// Takes the id of an order or a customer.
fn identifier(parameters: &mut Parameters, name: &'static str) -> Option<String> {
    let id = parameters.value(name)?;
    if !(1..=IDENTIFIER_BYTES_MAX).contains(&id.len()) || id.chars().any(char::is_control) {
        let detail = format!("{name} must be one id of 1 to {IDENTIFIER_BYTES_MAX} bytes");
        parameters.wrong(name, "out_of_range", &detail);
        return None;
    }
    Some(id)
}

fn currency(parameters: &mut Parameters) -> Option<Currency> {
    let code = parameters.value("currency")?;
    let currency = Currency::parse(&code);
    if currency.is_none() {
        parameters.wrong("currency", "unknown_value", "currency must be an active ISO 4217 code such as EUR");
    }
    currency
}

/// Parses the order filter from a search's parameters. The orders are returned newest first.
pub fn order_filter(
    tenant_id: &str,
    keys: &KeyHasher,
    parameters: &mut Parameters,
    product_ids: Vec<String>,
) -> (OrderFilter, TimeRange) {
    let range = Period::read(parameters).range(true);
    let (price_min, price_max) = amounts(parameters, ["min_price", "max_price"]);
    let (total_min, total_max) = amounts(parameters, ["min_total", "max_total"]);
    let of = OrderFilter {
        tenant_id: tenant_id.to_owned(),
        order: identifier(parameters, "order_id").map(|order_id| one(tenant_id, order_id, keys)),
        customer: identifier(parameters, "customer_id")
            .map(|customer_id| OneCustomer { key: keys.hash(tenant_id, &customer_id), customer_id }),
        currency: currency(parameters),
        product_ids: products(parameters, product_ids),
        category: parameters.text("category", NAME_BYTES_MAX),
        price_min,
        price_max,
        statuses: statuses(parameters),
        total_min,
        total_max,
        words: words(parameters),
        fields: 0,
        cache: Default::default(),
    };
    (of, range)
}

/// Takes a comma-separated parameter. A list of commas has no value, and it must not select every order, as an absent
/// parameter does.
fn list(parameters: &mut Parameters, name: &'static str) -> Vec<String> {
    let Some(text) = parameters.value(name) else { return Vec::new() };
    let parts: Vec<String> = text.split(',').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    if parts.is_empty() {
        let detail = format!("{name} has commas but no value: leave it out, or give it one");
        parameters.wrong(name, "empty_value", &detail);
    }
    parts
}

fn products(parameters: &mut Parameters, products: Vec<String>) -> Vec<String> {
    if products.len() > PRODUCTS_MAX || products.iter().any(|product| product.len() > IDENTIFIER_BYTES_MAX) {
        let detail = format!(
            "product_id must be up to {PRODUCTS_MAX} ids of at most {IDENTIFIER_BYTES_MAX} bytes, separated \
             by commas"
        );
        parameters.wrong("product_id", "out_of_range", &detail);
    }
    products
}

fn statuses(parameters: &mut Parameters) -> u8 {
    let mut mask = 0;
    for name in list(parameters, "status") {
        match OrderStatus::parse(&name) {
            Some(status) => mask |= 1 << status.code(),
            None => {
                let names = OrderStatus::ALL.map(OrderStatus::as_str).join(", ");
                let detail = format!("status must be one or more of {names}, separated by commas");
                parameters.wrong("status", "unknown_value", &detail);
            }
        }
    }
    mask
}

/// Takes the bounds of an amount, both inclusive, in ten-thousandths of a currency's unit. No currency has a smaller
/// unit. A bound may lie beyond every amount.
fn amounts(parameters: &mut Parameters, [min, max]: [&'static str; 2]) -> (Option<i128>, Option<i128>) {
    let bounds = (amount(parameters, min), amount(parameters, max));
    if let (Some(least), Some(most)) = bounds
        && least > most
    {
        parameters.wrong(max, "out_of_range", &format!("{max} must not be less than {min}"));
    }
    bounds
}

fn amount(parameters: &mut Parameters, name: &'static str) -> Option<i128> {
    let text = parameters.value(name)?;
    match parse_bound(text.as_bytes(), 4) {
        Ok(amount) => Some(amount),
        Err(error) => {
            let detail =
                format!("{name} must be a decimal number with at most four digits after the point: {error}");
            parameters.wrong(name, "not_a_decimal", &detail);
            None
        }
    }
}

fn words(parameters: &mut Parameters) -> Vec<String> {
    let Some(text) = parameters.value("q") else { return Vec::new() };
    // A word without letters or digits is ignored. The index of names has no such words either.
    let has_letters = |word: &&str| word.chars().any(char::is_alphanumeric);
    let words: Vec<String> = text.split_whitespace().filter(has_letters).map(str::to_owned).collect();
    if words.is_empty()
        || words.len() > WORDS_MAX
        || words.iter().any(|word| word.len() > WORD_BYTES_MAX || word.contains('\0'))
    {
        let detail = format!(
            "q must be 1 to {WORDS_MAX} words of at most {WORD_BYTES_MAX} bytes, at least one with a letter \
             or a digit; a trailing star matches a prefix"
        );
        parameters.wrong("q", "invalid_text", &detail);
    }
    words
}

fn fields(parameters: &mut Parameters) -> u16 {
    let names = list(parameters, "fields");
    if names.is_empty() {
        return FIELDS;
    }
    let mut mask = 0;
    for name in &names {
        match ORDER_FIELDS.iter().position(|known| known == name) {
            Some(at) => mask |= 1 << at,
            None => {
                let detail =
                    format!("fields must be any of {}, separated by commas", ORDER_FIELDS.join(", "));
                parameters.wrong("fields", "unknown_value", &detail);
                break;
            }
        }
    }
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> KeyHasher {
        KeyHasher::new(&[3; 16])
    }

    #[test]
    fn every_parameter_finds_its_place() {
        let query = "from=2026-01-01T00:00:00Z&to=2026-02-01T00:00:00Z&order_id=o-1&product_id=p1,p2&min_total=10.5&max_total=99\
                     &status=paid,shipped&q=ann*+smith&fields=order_id,total&limit=5&cursor=x&customer_id=c-7&category=garden\
                     &min_price=5&max_price=9.99&currency=EUR";
        let plan = SearchPlan::new("t", Some(query), &keys()).unwrap();
        let of = &plan.of;
        let order = of.order.as_ref().unwrap();
        assert_eq!((order.order_id.as_str(), order.key), ("o-1", keys().hash("t", "o-1")));
        assert_eq!((of.tenant_id.as_str(), plan.limit, plan.cursor.as_deref()), ("t", 5, Some("x")));
        let customer = of.customer.as_ref().unwrap();
        assert_eq!((customer.customer_id.as_str(), customer.key), ("c-7", keys().hash("t", "c-7")));
        assert_eq!((of.category.as_deref(), of.currency), (Some("garden"), Currency::parse("EUR")));
        assert_eq!((of.price_min, of.price_max), (Some(50_000), Some(99_900)));
        assert_eq!(of.product_ids, ["p1", "p2"]);
        assert_eq!((of.total_min, of.total_max), (Some(105_000), Some(990_000)));
        assert_eq!(of.statuses, 0b1100);
        assert_eq!(of.words, ["ann*", "smith"]);
        assert_eq!(of.fields, 0b1_0000_0001);
        assert_eq!(plan.range.to_us.unwrap() - plan.range.from_us.unwrap(), 31 * 86_400_000_000);
        assert_eq!(SearchPlan::new("t", None, &keys()).unwrap().limit, LIMIT);
    }

    #[test]
    fn what_has_no_meaning_is_told_all_at_once() {
        let query = "min_total=x&max_total=1.00001&status=lost&q=+&fields=name&limit=100001&foo=1&order_id=%00&customer_id=%00\
             &currency=EUX&category=%00&min_price=x&max_price=y";
        let errors = SearchPlan::new("t", Some(query), &keys()).unwrap_err();
        let names: Vec<_> = errors.iter().map(|error| &*error.name).collect();
        assert_eq!(
            names,
            [
                "foo",
                "min_price",
                "max_price",
                "min_total",
                "max_total",
                "order_id",
                "customer_id",
                "currency",
                "category",
                "status",
                "q",
                "fields",
                "limit"
            ]
        );
        let star = SearchPlan::new("t", Some("q=*"), &keys()).unwrap_err();
        assert_eq!(star[0].code, "invalid_text");
    }

    #[test]
    fn bounds_of_amounts_may_lie_beyond_every_amount_but_not_cross() {
        let plan = |query: &str| SearchPlan::new("t", Some(query), &keys());
        for name in ["min_price", "max_price", "min_total", "max_total"] {
            for bound in ["-1", "922337203685478", "9223372036854775808.5", &"9".repeat(100)] {
                assert!(plan(&format!("{name}={bound}")).is_ok(), "{name}={bound}");
            }
        }
        let of = plan("min_total=-0.5&max_total=9223372036854775807").unwrap().of;
        assert_eq!((of.total_min, of.total_max), (Some(-5_000), Some(92_233_720_368_547_758_070_000)));
        for of in ["price", "total"] {
            assert!(plan(&format!("min_{of}=5&max_{of}=5.00")).is_ok());
            let errors = plan(&format!("min_{of}=5.01&max_{of}=5")).unwrap_err();
            assert_eq!((&*errors[0].name, errors[0].code), (&*format!("max_{of}"), "out_of_range"));
        }
    }

    #[test]
    fn signs_between_words_are_ignored() {
        let words = |q: &str| SearchPlan::new("t", Some(q), &keys()).unwrap().of.words;
        assert_eq!(words("q=smith+%26+sons"), ["smith", "sons"]);
        assert_eq!(words("q=-+smith+*+%C2%A7"), ["smith"]);
        assert_eq!(words("q=o'neil+%28ann*"), ["o'neil", "(ann*"]);
        assert_eq!(SearchPlan::new("t", Some("q="), &keys()).unwrap_err()[0].code, "empty_value");
        for name in ["product_id", "status", "fields"] {
            for value in ["", ",", "%2C,,"] {
                let errors = SearchPlan::new("t", Some(&format!("{name}={value}")), &keys()).unwrap_err();
                let found: Vec<_> = errors.iter().map(|error| (&*error.name, error.code)).collect();
                assert_eq!(found, [(name, "empty_value")], "{value}");
            }
        }
    }
}

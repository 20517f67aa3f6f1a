//! `GET …/metrics/sales`: cached figures if no order has changed since they were computed, or otherwise new figures.

use std::cell::RefCell;

use super::plan::{Materialized, SalesCache, SalesPlan};
use super::query;
use crate::base::clock;
use crate::http::Answer;
use crate::lane::{Body, Call, Component};
use crate::query::QueryError;

/// Figures from earlier responses of this core. They are valid until an order changes them.
#[derive(Default)]
pub struct KeptSales(RefCell<SalesCache>);

impl Component for KeptSales {}

/// Returns sales figures for the tenant in the path. Cached figures are used if no order has changed since.
pub async fn sales(call: Call<'_>, _: Body<'_>) -> Result<Answer, QueryError> {
    let (lane, tenant_id) = (call.lane, call.tenant());
    let KeptSales(sales) = lane.component();
    let started_us = clock::monotonic_us();
    let plan = SalesPlan::new(tenant_id, call.query()).map_err(QueryError::Parameters)?;
    // The versions are read before the sales. If an order changes in between, the cached figures expire early, but
    // they are never wrong.
    let versions = query::sales_versions(call.readers(), tenant_id).await?;
    let took_us = || clock::monotonic_us() - started_us;
    let kept = sales.borrow_mut().get(&plan.key, &versions).map(|kept| kept.json(true, took_us()));
    let body = match kept {
        Some(body) => body,
        None => {
            let as_of_us = clock::unix_us();
            let result = query::sales(call.readers(), &plan.query).await?;
            let made = Materialized::new(&plan, &result, as_of_us);
            let body = made.json(false, took_us());
            sales.borrow_mut().put(plan.key, versions, made);
            body
        }
    };
    Ok(Answer::new(200, "application/json", body).with("Cache-Control", "no-store"))
}

//! Handles `GET …/products` and `GET …/products/{product}`.

use super::answer::{self, ProductNotRead};
use super::query;
use crate::http::Answer;
use crate::lane::{self, Body, Call, Reply};
use crate::query::QueryError;

/// Lists the tenant's products.
pub async fn list(call: Call<'_>, _: Body<'_>) -> Result<Reply, QueryError> {
    let plan = query::plan(call.tenant(), call.query()).map_err(QueryError::Parameters)?;
    lane::list(&call, plan).await
}

/// Returns everything about one product.
pub async fn get(call: Call<'_>, _: Body<'_>) -> Result<Answer, ProductNotRead> {
    let request = call.request;
    let product_id = request.parameter("product");
    let found = query::product(call.readers(), call.tenant(), &product_id).await?;
    let product = found.ok_or(ProductNotRead::NoSuchProduct)?;
    Ok(answer::product(&product_id, product, &request.headers))
}

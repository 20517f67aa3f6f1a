//! Responses about one product, and refusals.

use hyper::HeaderMap;

use super::query::WholeProduct;
use super::shapes::ProductState;
use crate::api::Problem;
use crate::api::error::{Asker, Refuse, problem};
use crate::api::etag::tagged;
use crate::base::ids::hex;
use crate::http::Answer;
use crate::query::QueryError;

/// Why a product was not read.
#[derive(Debug)]
pub enum ProductNotRead {
    NoSuchProduct,
    Query(QueryError),
}

impl From<QueryError> for ProductNotRead {
    fn from(error: QueryError) -> ProductNotRead {
        ProductNotRead::Query(error)
    }
}

impl Refuse for ProductNotRead {
    fn answer(&self, asker: &Asker<'_>) -> Answer {
        match self {
            ProductNotRead::NoSuchProduct => {
                let detail = "no order, price or stock update of this tenant names this product";
                problem(Problem::NoSuchProduct, detail, asker.request_id, &[], &[], asker.problems)
            }
            ProductNotRead::Query(error) => error.answer(asker),
        }
    }
}

/// Returns the response with a product, or 304 if the client has the same. The tag is a digest of the body.
pub(super) fn product(product_id: &str, product: WholeProduct, headers: &HeaderMap) -> Answer {
    let body = serde_json::to_vec(&ProductState::new(product_id, product)).unwrap_or_default();
    let tag = format!("\"{}\"", hex(&blake3::hash(&body).as_bytes()[..16]));
    tagged(tag, headers, || body)
}

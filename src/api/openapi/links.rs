//! Links from an operation that creates something to the operations that read or continue it.

use utoipa::openapi::link::LinkBuilder;
use utoipa::openapi::{Response, ResponseBuilder};

/// The next operation, and the expressions for its parameters.
pub struct Next {
    pub operation: &'static str,
    pub parameters: &'static [(&'static str, &'static str)],
}

/// Adds links to a response, each under its operation's name.
pub fn with_links(response: impl Into<ResponseBuilder>, links: &[Next]) -> Response {
    let linked = links.iter().fold(response.into(), |response: ResponseBuilder, next| {
        let link = LinkBuilder::new().operation_id(next.operation);
        let link =
            next.parameters.iter().fold(link, |link, (name, expression)| link.parameter(*name, *expression));
        response.link(next.operation, link.build())
    });
    linked.build()
}

/// Passes the request's tenant on to the next operation.
pub const SAME_TENANT: (&str, &str) = ("tenant", "$request.path.tenant");
/// Passes the request's product on to the next operation.
pub const SAME_PRODUCT: (&str, &str) = ("product", "$request.path.product");

//! String types that are part of many shapes, each described once.

use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::{OneOfBuilder, RefOr};
use utoipa::{PartialSchema, ToSchema};

use crate::base::limits::{IDENTIFIER_BYTES_MAX, NAME_BYTES_MAX};
use crate::base::money::Currency;

/// The pattern of strings without control characters.
const PLAIN: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
/// The pattern of a decimal string, with enough digits for every currency.
const DECIMAL: &str = r"^[0-9]{1,14}(\.[0-9]{1,4})?$";
/// The pattern of a bound of amounts.
pub const BOUND: &str = r"^-?[0-9]+(\.[0-9]{1,4}0*)?$";

fn plain(least: usize, most: usize, description: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(least))
        .max_length(Some(most))
        .pattern(Some(PLAIN))
        .description(Some(description))
        .into()
}

/// The id of a tenant, an event, an order, a product or a customer.
#[derive(Clone, Copy, Debug)]
pub struct Identifier;

impl PartialSchema for Identifier {
    fn schema() -> RefOr<Schema> {
        let description = "1 to 200 bytes of UTF-8 without control characters. The maximum length here \
                           counts characters; a text with non-ASCII characters may have fewer.";
        plain(1, IDENTIFIER_BYTES_MAX, description)
    }
}

impl ToSchema for Identifier {}

/// A classifying name: a source, a type, a category.
#[derive(Clone, Copy, Debug)]
pub struct Name;

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        let description = "1 to 100 bytes of UTF-8 without control characters. The maximum length here \
                           counts characters; a text with non-ASCII characters may have fewer.";
        plain(1, NAME_BYTES_MAX, description)
    }
}

impl ToSchema for Name {}

/// The currency code of an amount.
#[derive(Clone, Copy, Debug)]
pub struct CurrencyCode;

impl PartialSchema for CurrencyCode {
    fn schema() -> RefOr<Schema> {
        let codes = Currency::all().map(|currency| currency.to_string());
        ObjectBuilder::new()
            .schema_type(Type::String)
            .enum_values(Some(codes))
            .description(Some("An active ISO 4217 code."))
            .into()
    }
}

impl ToSchema for CurrencyCode {}

/// An amount of money in a request.
#[derive(Clone, Copy, Debug)]
pub struct Amount;

impl PartialSchema for Amount {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(DECIMAL));
        let number = ObjectBuilder::new()
            .schema_type(Type::Number)
            .minimum(Some(utoipa::Number::Int(0)))
            .maximum(Some(utoipa::Number::Int(99_999_999_999_999)));
        OneOfBuilder::new()
            .item(text)
            .item(number)
            .description(Some(
                "A non-negative amount of money: a decimal string or a number, with no more digits after \
                 the point than the currency has.",
            ))
            .into()
    }
}

impl ToSchema for Amount {}

//! The shapes of products in responses.

use serde::Serialize;
use utoipa::ToSchema;

use super::query::WholeProduct;
use super::read::ProductPart;
use crate::base::clock;
use crate::base::money::{Currency, write_decimal};
use crate::orders::ProductSale;
use crate::prices::NewestPrice;
use crate::stock::StockLevel;

/// A product in a list.
#[derive(Serialize, ToSchema)]
pub struct ProductSummary {
    #[schema(example = "p-1")]
    pub product_id: String,
    /// The category in which orders name the product, or `null` if no order did. If they name several, it is the first
    /// in the order of bytes.
    #[schema(example = "garden")]
    pub category: Option<String>,
    /// The newest accepted price in each currency, newest first. Empty if there is none.
    pub prices: Vec<CurrentPrice>,
    /// The stock, or `null` if no stock update was applied.
    pub stock: Option<CurrentStock>,
}

/// The newest accepted price in one currency.
#[derive(Serialize, ToSchema)]
pub struct CurrentPrice {
    #[schema(example = "19.99")]
    pub price: String,
    #[schema(example = "EUR")]
    pub currency: String,
    #[schema(format = DateTime)]
    pub observed_at: String,
}

/// A product's stock.
#[derive(Serialize, ToSchema)]
pub struct CurrentStock {
    /// It is negative only if imported stock adds up to less than zero.
    #[schema(example = 40)]
    pub quantity: i64,
    /// The number of changes so far, as in the `ETag` of the stock.
    #[schema(minimum = 1, example = 3)]
    pub version: i64,
    /// When the last change was accepted.
    #[schema(format = DateTime)]
    pub updated_at: String,
}

/// Everything about one product.
#[derive(Serialize, ToSchema)]
pub struct ProductState {
    #[schema(example = "p-1")]
    pub product_id: String,
    /// The category in which orders name the product, or `null` if no order did. If they name several, it is the first
    /// in the order of bytes.
    #[schema(example = "garden")]
    pub category: Option<String>,
    /// The newest accepted price in each currency, newest first. Empty if there is none.
    pub prices: Vec<CurrentPrice>,
    /// The stock, or `null` if no stock update was applied.
    pub stock: Option<CurrentStock>,
    pub open_anomalies: OpenPriceAnomalies,
    /// The newest order with the product that is neither cancelled nor refunded, or `null` if there is none.
    pub last_sale: Option<LastSale>,
}

/// The price anomalies that are not decided yet.
#[derive(Serialize, ToSchema)]
pub struct OpenPriceAnomalies {
    /// Counted among the newest 10,000 anomalies of the product.
    #[schema(example = 1)]
    pub count: u64,
    /// The ids of the newest 20.
    #[schema(max_items = 20)]
    pub ids: Vec<String>,
    /// `true` if the product has more than 10,000 anomalies, of which older ones may be open, too.
    pub truncated: bool,
}

/// The last sale of a product. Of two orders with the same time, it is the one with the greater id.
#[derive(Serialize, ToSchema)]
pub struct LastSale {
    #[schema(format = DateTime)]
    pub ordered_at: String,
    #[schema(example = "o-1001")]
    pub order_id: String,
    /// The units of the product in the order, over all of its lines.
    #[schema(example = 2)]
    pub quantity: i64,
    /// The price in the first line with the product.
    #[schema(example = "19.99")]
    pub unit_price: String,
    #[schema(example = "EUR")]
    pub currency: String,
    /// The category in that line.
    #[schema(example = "garden")]
    pub category: String,
}

/// A page of products, sorted by the bytes of their ids.
#[derive(Serialize, ToSchema)]
pub struct ProductPage {
    pub products: Vec<ProductSummary>,
    /// The number of products in this response.
    pub rows: u64,
    /// The cursor of the next page, or `null` on the last page.
    pub next_cursor: Option<String>,
}

fn amount(minor: i64, currency: Currency) -> String {
    let mut out = Vec::new();
    write_decimal(minor, currency.digits(), &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

impl CurrentPrice {
    fn new(of: &NewestPrice) -> CurrentPrice {
        CurrentPrice {
            price: amount(of.price, of.currency),
            currency: of.currency.to_string(),
            observed_at: clock::rfc3339(of.observed_us),
        }
    }
}

impl CurrentStock {
    fn new(level: &StockLevel) -> CurrentStock {
        let StockLevel { quantity, version, updated_us } = *level;
        CurrentStock { quantity, version, updated_at: clock::rfc3339(updated_us) }
    }
}

impl LastSale {
    fn new(sale: ProductSale) -> LastSale {
        LastSale {
            ordered_at: clock::rfc3339(sale.ordered_at_us),
            order_id: sale.order_id,
            quantity: sale.quantity,
            unit_price: amount(sale.unit_price, sale.currency),
            currency: sale.currency.to_string(),
            category: sale.category,
        }
    }
}

impl ProductSummary {
    pub(super) fn new(product_id: &str, part: &ProductPart) -> ProductSummary {
        ProductSummary {
            product_id: product_id.to_owned(),
            category: part.category.clone(),
            prices: part.prices.iter().map(CurrentPrice::new).collect(),
            stock: part.stock.as_ref().map(CurrentStock::new),
        }
    }
}

impl ProductState {
    pub(super) fn new(product_id: &str, product: WholeProduct) -> ProductState {
        let WholeProduct { part, anomalies, last_sale } = product;
        let ProductSummary { product_id, category, prices, stock } = ProductSummary::new(product_id, &part);
        ProductState {
            product_id,
            category,
            prices,
            stock,
            open_anomalies: OpenPriceAnomalies {
                count: anomalies.count,
                ids: anomalies.ids,
                truncated: anomalies.is_truncated,
            },
            last_sale: last_sale.map(LastSale::new),
        }
    }
}

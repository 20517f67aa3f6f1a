//! The list of views.

mod clicks;
mod events;
mod names;
mod orders;
mod prices;
mod stock;

use super::view::View;

/// Every view, with another name of it, in the order in which `.tables` lists them.
pub(super) static VIEWS: &[(&str, &View)] = &[
    ("events", &clicks::EVENTS),
    ("clicks", &clicks::EVENTS),
    ("service_events", &events::SERVICE_EVENTS),
    ("orders", &orders::ORDERS_VIEW),
    ("order_items", &orders::ORDER_ITEMS),
    ("products", &names::PRODUCTS),
    ("customers", &names::CUSTOMERS),
    ("price_history", &prices::PRICE_HISTORY),
    ("price_anomalies", &prices::PRICE_ANOMALIES),
    ("stock", &stock::STOCK),
    ("stock_events", &stock::STOCK_EVENTS),
    ("tenants", &names::TENANTS),
];

pub(super) fn find(name: &str) -> Option<&'static View> {
    VIEWS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, view)| *view)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_in_a_view_is_one_of_its_columns() {
        for (_, view) in VIEWS {
            let named = view.indexes.iter().copied().flatten().copied();
            let named = named.chain(view.time).chain(view.row).chain(view.route.iter().flatten().copied());
            for name in named.chain(view.key.split(", ")) {
                assert!(view.find(name).is_some(), "{}: {name}", view.name);
            }
            assert!(view.columns.len() < 32, "a plan has one bit for each column");
            assert!(
                view.columns.iter().all(|column| column.joins.iter().all(|join| *join < view.joins.len()))
            );
        }
    }
}

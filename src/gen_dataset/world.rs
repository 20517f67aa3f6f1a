//! The fixed data: tenants, products and customers, and the popularity of products and customers. Products and
//! customers are derived from their numbers whenever they are needed, so none is stored.

use super::catalogue::{self, CATEGORIES};
use super::currency::Currency;
use super::error::GenError;
use super::people::Person;
use super::random::{Random, Use, key};
use super::row::{self, Customer, Id, Product, Sink};
use super::season::Season;
use super::spec::Spec;
use super::tenants;
use super::zipf::{Shuffle, Zipf};

/// The Zipf exponent for products: a few products make most of the sales.
const PRODUCTS_EXPONENT: f64 = 1.05;
/// The Zipf exponent for customers, whose popularity differs less than that of products.
const CUSTOMERS_EXPONENT: f64 = 0.7;

/// One tenant.
#[derive(Debug)]
pub(super) struct Tenant {
    pub(super) id: String,
    name: String,
    /// The prefix of the tenant's order ids, such as `ord-3-`.
    pub(super) order_prefix: String,
    pub(super) price_prefix: String,
    pub(super) stock_prefix: String,
    pub(super) currency: Currency,
    pub(super) people_key: u64,
    catalogue_key: u64,
    pub(super) product_ranks: Shuffle,
    customer_ranks: Shuffle,
}

/// Everything that the streams of rows draw from. It takes 300 bytes per tenant and 8 per hour.
#[derive(Debug)]
pub struct World {
    pub(super) spec: Spec,
    pub(super) season: Season,
    pub(super) tenants: Vec<Tenant>,
    pub(super) product_popularity: Zipf,
    customer_popularity: Zipf,
}

impl World {
    /// Builds the world from checked parameters.
    #[must_use]
    pub fn new(spec: Spec) -> World {
        let tenants = (0..spec.tenants).map(|tenant| Tenant::new(&spec, tenant)).collect();
        World {
            season: Season::new(spec.start, spec.days),
            product_popularity: Zipf::new(spec.products, PRODUCTS_EXPONENT),
            customer_popularity: Zipf::new(spec.customers, CUSTOMERS_EXPONENT),
            tenants,
            spec,
        }
    }

    /// Returns the parameters.
    #[must_use]
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Returns a random product of a tenant, weighted by popularity.
    pub(super) fn some_product(&self, tenant: &Tenant, random: &mut Random) -> u32 {
        tenant.product_ranks.at(self.product_popularity.rank(random) - 1)
    }

    /// Returns a random customer of a tenant, weighted by loyalty.
    pub(super) fn some_customer(&self, tenant: &Tenant, random: &mut Random) -> u32 {
        tenant.customer_ranks.at(self.customer_popularity.rank(random) - 1)
    }

    /// Passes every tenant to the sink.
    pub(super) fn tenants(&self, sink: &mut dyn Sink, row_done: &mut dyn FnMut()) -> Result<(), GenError> {
        for Tenant { id, name, currency, .. } in &self.tenants {
            sink.tenant(&row::Tenant { tenant_id: id, name, currency: *currency })?;
            row_done();
        }
        Ok(())
    }

    /// Passes every customer to the sink, tenant by tenant.
    pub(super) fn customers(&self, sink: &mut dyn Sink, row_done: &mut dyn FnMut()) -> Result<(), GenError> {
        let mut person = Person::default();
        for tenant in &self.tenants {
            for number in 0..self.spec.customers {
                person.become_number(tenant.people_key, number);
                sink.customer(&Customer {
                    tenant_id: &tenant.id,
                    customer_id: customer_id(number),
                    name: &person.name,
                    email: &person.email,
                    country: person.country,
                })?;
                row_done();
            }
        }
        Ok(())
    }

    /// Passes every product to the sink, tenant by tenant.
    pub(super) fn products(&self, sink: &mut dyn Sink, row_done: &mut dyn FnMut()) -> Result<(), GenError> {
        let mut name = String::new();
        for tenant in &self.tenants {
            for number in 0..self.spec.products {
                let product = tenant.product(number);
                catalogue::name(tenant.catalogue_key, number, product, &mut name);
                sink.product(&Product {
                    tenant_id: &tenant.id,
                    product_id: product_id(number),
                    name: &name,
                    category: CATEGORIES[usize::from(product.category)].name,
                    unit_price_minor: product.price_minor,
                    currency: tenant.currency,
                })?;
                row_done();
            }
        }
        Ok(())
    }
}

impl Tenant {
    fn new(spec: &Spec, tenant: u32) -> Tenant {
        let number = tenant + 1;
        let currency = spec.currencies[tenant as usize % spec.currencies.len()];
        let mut ranks = Random::new(key(spec.seed, Use::Ranks, tenant));
        Tenant {
            id: format!("tenant_{number}"),
            name: tenants::name(spec.seed, tenant),
            order_prefix: format!("ord-{number}-"),
            price_prefix: format!("price-{number}-"),
            stock_prefix: format!("stock-{number}-"),
            currency,
            people_key: key(spec.seed, Use::People, tenant),
            catalogue_key: key(spec.seed, Use::Catalogue, tenant),
            product_ranks: Shuffle::new(spec.products, &mut ranks),
            customer_ranks: Shuffle::new(spec.customers, &mut ranks),
        }
    }

    pub(super) fn product(&self, number: u32) -> catalogue::Product {
        catalogue::product(self.catalogue_key, number, self.currency)
    }
}

/// Returns a customer's id. For the number 0, this is `cust-0000001`.
pub(super) fn customer_id(number: u32) -> Id {
    Id::new("cust-", u64::from(number) + 1, 7)
}

/// Returns a product's id. For the number 0, this is `prod-000001`.
pub(super) fn product_id(number: u32) -> Id {
    Id::new("prod-", u64::from(number) + 1, 6)
}

//! Products: their category, price and name.

use super::currency::Currency;
use super::powers::exp;
use super::random::{mix, of_product};

/// A category: its name, its median price in US cents, and the names of its products.
#[derive(Debug)]
pub(super) struct Category {
    pub(super) name: &'static str,
    median_usd_cents: u32,
    things: [&'static str; 4],
}

const fn category(name: &'static str, median_usd_cents: u32, things: [&'static str; 4]) -> Category {
    Category { name, median_usd_cents, things }
}

/// All categories, in descending order of their number of products.
pub(super) const CATEGORIES: &[Category] = &[
    category("Electronics", 8_900, ["Headphones", "Speaker", "Charger", "Monitor 27\""]),
    category("Clothing", 3_400, ["Shirt", "Jacket", "Jeans", "Dress"]),
    category("Home & Kitchen", 2_900, ["Pan", "Kettle", "Knife Set, 6 pcs", "Lamp"]),
    category("Books", 1_500, ["Novel", "Cookbook", "Atlas", "Diary"]),
    category("Beauty", 1_800, ["Serum", "Lipstick", "Crème", "Shampoo"]),
    category("Toys & Games", 2_200, ["Puzzle", "Board Game", "Robot", "Plush Bear"]),
    category("Sports", 3_900, ["Yoga Mat", "Dumbbell", "Racket", "Football"]),
    category("Shoes", 6_500, ["Sneaker", "Boot", "Sandal", "Loafer"]),
    category("Grocery", 700, ["Coffee", "Olive Oil", "Müsli", "Dark Chocolate"]),
    category("Garden", 2_600, ["Spade", "Hose", "Planter", "Seed Mix"]),
    category("Pet Supplies", 1_900, ["Leash", "Cat Tree", "Dog Food", "Aquarium"]),
    category("Office", 1_200, ["Notebook", "Stapler", "Desk Pad", "Fountain Pen"]),
    category("Tools", 4_500, ["Drill", "Wrench", "Saw", "Tape Measure"]),
    category("Automotive", 3_100, ["Wiper", "Phone Mount", "Jump Starter", "Floor Mat"]),
    category("Baby", 2_400, ["Stroller", "Bottle", "Blanket", "Monitor"]),
    category("Health", 2_000, ["Vitamin C", "Thermometer", "Scale", "Bandage"]),
    category("Jewellery", 9_800, ["Ring", "Necklace", "Bracelet", "Earrings"]),
    category("Music", 5_200, ["Guitar Strings", "Ukulele", "Vinyl", "Keyboard"]),
    category("Luggage", 8_200, ["Suitcase", "Backpack", "Duffel", "Garment Bag"]),
    category("Café & Bar", 2_700, ["Espresso Cup", "Shaker", "Grinder", "Carafe"]),
];

/// The masks in `truth` have one bit per category.
const _: () = assert!(CATEGORIES.len() <= 32);

const STYLES: &[&str] = &[
    "Classic",
    "Compact",
    "Premium",
    "Everyday",
    "Ultra",
    "Eco",
    "Vintage",
    "Modern",
    "Slim",
    "Heavy-Duty",
    "Deluxe",
    "Travel",
    "Nordic",
    "Urban",
    "Essential",
    "Pro",
];

/// A product of one tenant.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Product {
    pub(super) price_minor: u64,
    pub(super) category: u8,
}

/// Returns the product with this number, from 0, under a tenant's key. It takes about 0.1 us, so that no product is
/// stored. Prices are log-normal around the category's median, and many end in 99.
pub(super) fn product(key: u64, number: u32, currency: Currency) -> Product {
    let random = &mut of_product(key, number);
    // Takes the lower of two draws, so that the first categories have the most products.
    let count = CATEGORIES.len() as u64;
    let category = random.below(count).min(random.below(count)) as u8;
    let median = f64::from(CATEGORIES[usize::from(category)].median_usd_cents);
    let cents = (median * exp(0.65 * random.bell())) as u64;
    let cents = match random.below(10) {
        0..=5 => cents / 100 * 100 + 99,
        6..=7 => cents / 50 * 50 + 49,
        _ => cents.max(25),
    };
    Product { price_minor: currency.price_of_usd_cents(cents), category }
}

/// Writes a product's name into `name`, such as `Nordic Kettle 17`.
pub(super) fn name(key: u64, number: u32, product: Product, name: &mut String) {
    let mut random = of_product(mix(key), number);
    let category = &CATEGORIES[usize::from(product.category)];
    name.clear();
    name.push_str(STYLES[random.below(STYLES.len() as u64) as usize]);
    name.push(' ');
    name.push_str(category.things[random.below(4) as usize]);
    name.push(' ');
    name.push_str(itoa::Buffer::new().format(number + 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(key: u64, count: u32, code: &str) -> Vec<Product> {
        let currency = Currency::of(code).unwrap();
        (0..count).map(|number| product(key, number, currency)).collect()
    }

    fn medians(code: &str) -> u64 {
        let mut prices: Vec<u64> = products(1, 4001, code).iter().map(|p| p.price_minor).collect();
        prices.sort_unstable();
        prices[2000]
    }

    #[test]
    fn prices_spread_and_fit_their_currency() {
        let products = products(1, 5000, "USD");
        let prices = products.iter().map(|product| product.price_minor);
        assert!(prices.clone().min() < Some(1000) && prices.clone().max() > Some(50_000));
        let charming = prices.filter(|price| price % 100 == 99).count();
        assert!((2500..4500).contains(&charming), "{charming}");
        assert!((1500..5000).contains(&medians("USD")), "{}", medians("USD"));
        assert!((2000..8000).contains(&medians("JPY")), "{}", medians("JPY"));
        assert!((4000..16_000).contains(&medians("KWD")), "{}", medians("KWD"));
    }

    #[test]
    fn every_category_has_products_and_the_first_has_most() {
        let mut counts = vec![0_u32; CATEGORIES.len()];
        for product in products(2, 10_000, "USD") {
            counts[usize::from(product.category)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 5) && counts[0] > 4 * counts[15], "{counts:?}");
    }
}

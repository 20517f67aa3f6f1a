//! The names of tenants. The same number always has the same name.

use super::random::{Use, key};

/// Some names contain what breaks careless parsers: letters beyond ASCII, apostrophes, commas, ampersands.
const OWNERS: &[&str] = &[
    "Alder & Finch",
    "Brightwater",
    "Café Solène",
    "Drummond, Hale",
    "Elmstead",
    "Fjord & Fell",
    "Grünwald",
    "Halcyon",
    "Isla Norte",
    "Juniper Row",
    "Kestrel",
    "Larkspur",
    "Moreau's",
    "Nightjar",
    "Ostermann",
    "Pemberton",
    "Quillfeather",
    "Rowan \"Red\" Barn",
    "Sundström",
];

const TRADES: &[&str] = &["Traders", "Outfitters", "Supply", "Market", "Goods", "Bazaar", "Stores"];

/// Returns the name of the tenant with this number, from 0, such as `Kestrel Outfitters`. Names repeat after
/// `OWNERS` times `TRADES` tenants, with the tenant's number appended.
pub(super) fn name(seed: u64, tenant: u32) -> String {
    // Both counts are prime and different, so one step through both lists reaches every pair once.
    let at = tenant as usize + (key(seed, Use::Names, 0) % 1_000_003) as usize;
    let (owner, trade) = (OWNERS[at % OWNERS.len()], TRADES[at % TRADES.len()]);
    if (tenant as usize) < OWNERS.len() * TRADES.len() {
        format!("{owner} {trade}")
    } else {
        format!("{owner} {trade} {}", tenant + 1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_depend_on_the_seed() {
        let names: HashSet<String> = (0..1_000).map(|tenant| name(1, tenant)).collect();
        assert_eq!(names.len(), 1_000);
        assert!(names.iter().any(|name| !name.is_ascii()) && names.iter().any(|name| name.contains('\'')));
        assert_ne!(name(1, 0), name(2, 0));
    }
}

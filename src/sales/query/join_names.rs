//! Joins the groups by name of all shards, each of which numbers its names itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::columns::{ColumnScan, GroupKey, SaleList, SharedLists};

/// The names of all shards, with numbers.
#[derive(Debug, Default)]
pub(super) struct JoinedNames {
    numbers: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
}

impl JoinedNames {
    /// Joins the names of all shards at once. Returns them in order, with the numbers of each shard's names. Takes
    /// about 50 ns a name, if those of each shard are in order.
    pub(super) fn join(lists: Vec<Vec<String>>) -> (Vec<String>, Vec<Vec<u32>>) {
        let mut numbers: Vec<Vec<u32>> = lists.iter().map(|names| vec![0; names.len()]).collect();
        let of_shards = lists.into_iter().enumerate();
        let of_shards = of_shards.flat_map(|(shard, names)| {
            names.into_iter().enumerate().map(move |(place, name)| (name, shard as u32, place as u32))
        });
        let mut all: Vec<(String, u32, u32)> = of_shards.collect();
        // A stable sort merges what is in order already.
        all.sort_by(|one, other| one.0.cmp(&other.0));
        let mut names: Vec<String> = Vec::new();
        for (name, shard, place) in all {
            if names.last() != Some(&name) {
                names.push(name);
            }
            numbers[shard as usize][place as usize] = names.len() as u32 - 1;
        }
        (names, numbers)
    }

    fn number(&mut self, name: String) -> u32 {
        if let Some(number) = self.numbers.get(name.as_str()) {
            return *number;
        }
        let number = self.names.len() as u32;
        let name: Arc<str> = name.into();
        self.names.push(name.clone());
        self.numbers.insert(name, number);
        number
    }

    /// Returns the name with a number.
    pub(super) fn get(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(|name| &**name)
    }
}

/// The lists of all shards. Their groups have the numbers of the joined names.
#[derive(Debug, Default)]
pub(super) struct NamedLists {
    pub(super) names: JoinedNames,
    pub(super) lists: Vec<(GroupKey, SaleList)>,
    /// The distinct customers of each group, if the lists do not contain them.
    pub(super) customers: HashMap<GroupKey, u64>,
}

impl NamedLists {
    /// Takes the lists of all shards.
    pub(super) fn join<'s>(
        scans: impl Iterator<Item = &'s mut ColumnScan>,
        shared: &SharedLists,
    ) -> NamedLists {
        let mut joined = NamedLists::default();
        let mut keys: Vec<GroupKey> = Vec::new();
        for ((name, currency), customers) in shared.take() {
            let key = (joined.names.number(name), currency);
            joined.customers.extend(customers.map(|customers| (key, customers)));
            keys.push(key);
        }
        let lists = scans.flat_map(ColumnScan::take_lists);
        joined.lists = lists.filter_map(|(number, list)| Some((*keys.get(number)?, list))).collect();
        joined
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn joined_names_are_all_names_once_and_in_order(
            lists in prop::collection::vec(prop::collection::hash_set("[a-c]{0,3}", 0..12), 0..5),
        ) {
            let lists: Vec<Vec<String>> = lists.into_iter().map(|names| names.into_iter().collect()).collect();
            let (names, numbers) = JoinedNames::join(lists.clone());
            prop_assert!(names.is_sorted_by(|one, next| one < next));
            prop_assert!(names.iter().all(|name| lists.iter().any(|list| list.contains(name))));
            let found: Vec<Vec<&String>> = numbers
                .iter()
                .map(|numbers| numbers.iter().map(|number| &names[*number as usize]).collect())
                .collect();
            let expected: Vec<Vec<&String>> = lists.iter().map(|list| list.iter().collect()).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

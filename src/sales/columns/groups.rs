//! Sales added up by group and currency, with the customers and totals of every sale.

use super::super::totals::{Totals, extend_tight, push_tight};
use super::masks::{CustomerMasks, LISTS_MAX, lists_of};
use crate::base::money::Currency;

/// One group in one currency.
#[derive(Debug, Default)]
pub(in super::super) struct SaleList {
    pub(in super::super) orders: i64,
    pub(in super::super) units: i128,
    pub(in super::super) revenue: i128,
    /// The customer of each sale. Empty if they are in the masks of all lists.
    pub(in super::super) customers: Vec<u64>,
    pub(in super::super) totals: Totals,
}

impl SaleList {
    pub(in super::super) fn bytes(&self) -> usize {
        size_of::<SaleList>() + self.customers.capacity() * size_of::<u64>() + self.totals.bytes()
    }
}

/// The number of a group, and its currency.
pub(in super::super) type GroupKey = (u32, Currency);

/// The sales of one shard, by group. Groups are numbered: they are the periods of a question, or names.
#[derive(Debug, Default)]
pub(in super::super) struct SaleGroups {
    /// For each currency, the place of each group's list plus one, or 0 if the group has none yet.
    places: Vec<(Currency, Vec<u32>)>,
    lists: Vec<(GroupKey, SaleList)>,
    /// The customers of all lists by their places, while there are few.
    masks: Option<CustomerMasks>,
    bytes: usize,
    /// The number of sales so far.
    pub(in super::super) rows: u64,
}

impl SaleGroups {
    /// Returns the memory of all lists.
    pub(in super::super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the place of a currency, for [`SaleGroups::push`].
    pub(super) fn currency(&mut self, currency: Currency) -> usize {
        match self.places.iter().position(|(known, _)| *known == currency) {
            Some(place) => place,
            None => {
                self.places.push((currency, Vec::new()));
                self.places.len() - 1
            }
        }
    }

    /// Returns groups that are taken all at once. While there are at most 64 of them, their customers are in one set.
    pub(super) fn with_masks() -> SaleGroups {
        SaleGroups { masks: Some(CustomerMasks::default()), ..SaleGroups::default() }
    }

    /// Adds a sale. Returns the mask of its list, for [`SaleGroups::add_customer`]. Takes about 5 ns.
    #[inline]
    pub(super) fn push(&mut self, currency: usize, group: u32, sale: Sale) -> u64 {
        let place = match self.places[currency].1.get(group as usize) {
            Some(place) if *place > 0 => *place as usize - 1,
            _ => self.list(currency, group),
        };
        let list = &mut self.lists[place].1;
        list.orders += 1;
        list.units += i128::from(sale.units);
        list.revenue += i128::from(sale.revenue);
        self.bytes += list.totals.push(sale.total);
        self.rows += 1;
        if self.masks.is_some() {
            return 1 << place;
        }
        self.bytes += push_tight(&mut list.customers, sale.customer);
        0
    }

    /// Adds consecutive sales of one group: their customers, totals and units. The revenue is the total. Only for
    /// groups without masks. Takes about 2 ns a sale.
    #[inline]
    pub(super) fn push_run(
        &mut self,
        currency: usize,
        group: u32,
        (customers, totals, units): (&[i64], &[i64], &[i64]),
    ) {
        debug_assert!(self.masks.is_none(), "the customers of a run are in lists");
        let place = match self.places[currency].1.get(group as usize) {
            Some(place) if *place > 0 => *place as usize - 1,
            _ => self.list(currency, group),
        };
        let list = &mut self.lists[place].1;
        list.orders += customers.len() as i64;
        list.units += units.iter().map(|units| i128::from(*units)).sum::<i128>();
        list.revenue += totals.iter().map(|total| i128::from(*total)).sum::<i128>();
        self.rows += customers.len() as u64;
        self.bytes += list.totals.extend(totals);
        let customers = customers.iter().map(|customer| *customer as u64);
        self.bytes += extend_tight(&mut list.customers, customers);
    }

    /// Adds a customer to the lists of sales that were just pushed.
    #[inline]
    pub(super) fn add_customer(&mut self, customer: u64, mask: u64) {
        if mask == 0 {
            return;
        }
        match &mut self.masks {
            Some(masks) => self.bytes += masks.add(customer, mask),
            // The list of a later part was one too many.
            None => self.list_customer(customer, mask),
        }
    }

    fn list_customer(&mut self, customer: u64, mask: u64) {
        for place in lists_of(mask) {
            self.bytes += push_tight(&mut self.lists[place].1.customers, customer);
        }
    }

    /// Moves the customers from the masks to the lists.
    #[cold]
    pub(in super::super) fn list_customers(&mut self) {
        let Some(masks) = self.masks.take() else { return };
        self.bytes -= masks.bytes();
        masks.iter().for_each(|(customer, mask)| self.list_customer(customer, mask));
    }

    /// Returns `true` if the customers are in masks.
    pub(in super::super) fn has_masks(&self) -> bool {
        self.masks.is_some()
    }

    /// Returns the groups and currencies of the lists, in the order of their places.
    pub(in super::super) fn keys(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.lists.iter().map(|(key, _)| *key)
    }

    /// Removes the masks, by the places of the lists that [`SaleGroups::keys`] returns.
    pub(in super::super) fn take_masks(&mut self) -> CustomerMasks {
        self.masks.take().unwrap_or_default()
    }

    /// Returns the place of a new list.
    #[cold]
    fn list(&mut self, currency: usize, group: u32) -> usize {
        let (currency, places) = &mut self.places[currency];
        let group_place = group as usize;
        if group_place >= places.len() {
            let len = (group_place + 1).max(places.len() * 2);
            self.bytes += (len - places.len()) * size_of::<u32>();
            places.resize(len, 0);
        }
        self.lists.push(((group, *currency), SaleList::default()));
        let place = self.lists.len() - 1;
        self.bytes += size_of::<(GroupKey, SaleList)>();
        places[group_place] = self.lists.len() as u32;
        if place == LISTS_MAX {
            self.list_customers();
        }
        place
    }

    /// Removes the lists of groups that are complete.
    pub(in super::super) fn take(&mut self, is_complete: impl Fn(u32) -> bool) -> Vec<(GroupKey, SaleList)> {
        let (taken, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lists).into_iter().partition(|((group, _), _)| is_complete(*group));
        for (_, places) in &mut self.places {
            places.clear();
            places.shrink_to_fit();
        }
        self.bytes = 0;
        for ((group, currency), list) in left {
            let currency = self.currency(currency);
            let place = self.list(currency, group);
            self.bytes += list.bytes() - size_of::<SaleList>();
            self.lists[place].1 = list;
        }
        taken
    }
}

/// One sale, or the part of it that belongs to one name.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sale {
    pub(super) customer: u64,
    /// The total of the whole order.
    pub(super) total: i64,
    pub(super) units: i64,
    pub(super) revenue: i64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn customers_are_in_masks_until_there_is_one_list_too_many() {
        let usd = Currency::parse("USD").unwrap();
        for lists in [LISTS_MAX as u32, LISTS_MAX as u32 + 3] {
            let mut groups = SaleGroups::with_masks();
            let place = groups.currency(usd);
            let mut expected = vec![BTreeSet::new(); lists as usize];
            for n in 0..400_u64 {
                // Up to three parts, the last of which may begin a new list.
                let parts = (0..3).map(|part| (n * (part + 1) / 20 % u64::from(lists)) as u32);
                let parts: BTreeSet<u32> = parts.collect();
                let mut mask = 0;
                for part in parts {
                    let sale = Sale { customer: n % 90, total: 7, units: 1, revenue: 7 };
                    mask |= groups.push(place, part, sale);
                    expected[part as usize].insert(n % 90);
                }
                groups.add_customer(n % 90, mask);
            }
            assert_eq!(groups.has_masks(), lists as usize <= LISTS_MAX);
            let keys: Vec<_> = groups.keys().collect();
            assert_eq!(keys.len(), lists as usize);
            if groups.has_masks() {
                let counts = groups.take_masks().counts();
                for ((group, _), count) in keys.iter().zip(counts) {
                    assert_eq!(count as usize, expected[*group as usize].len());
                }
                assert!(groups.take(|_| true).iter().all(|(_, list)| list.customers.is_empty()));
                continue;
            }
            for (((group, _), list), key) in groups.take(|_| true).iter().zip(keys) {
                assert_eq!(key.0, *group);
                let found: BTreeSet<u64> = list.customers.iter().copied().collect();
                assert_eq!(found, expected[*group as usize], "{group}");
            }
        }
    }

    #[test]
    fn sales_are_counted_in_their_group_and_currency_and_bytes_are_those_of_the_lists() {
        let (usd, jpy) = (Currency::parse("USD").unwrap(), Currency::parse("JPY").unwrap());
        let mut groups = SaleGroups::default();
        let places = [groups.currency(usd), groups.currency(jpy), groups.currency(usd)];
        assert_eq!(places, [0, 1, 0]);
        for n in 0..1_000_u32 {
            let sale = Sale { customer: u64::from(n % 7), total: i64::from(n) << 24, units: 2, revenue: 5 };
            groups.push(n as usize % 2, n % 10, sale);
        }
        let bytes = |groups: &SaleGroups| {
            let lists =
                groups.lists.iter().map(|(_, list)| list.bytes() + size_of::<GroupKey>()).sum::<usize>();
            lists + groups.places.iter().map(|(_, places)| places.len() * 4).sum::<usize>()
        };
        let is_near = |groups: &SaleGroups| groups.bytes().abs_diff(bytes(groups)) < 64 * groups.lists.len();
        assert!(is_near(&groups), "{} {}", groups.bytes(), bytes(&groups));
        let taken = groups.take(|group| group < 4);
        assert_eq!(taken.len(), 4);
        for ((group, currency), list) in &taken {
            assert_eq!(*currency, if group % 2 == 0 { usd } else { jpy });
            assert_eq!((list.orders, list.units, list.revenue), (100, 200, 500));
            assert_eq!((list.customers.len(), list.totals.len()), (100, 100));
        }
        assert!(is_near(&groups));
        groups.push(0, 8, Sale { customer: 1, total: 1, units: 1, revenue: 1 });
        groups.push(0, 1, Sale { customer: 1, total: 1, units: 1, revenue: 1 });
        let mut left: Vec<_> = groups.take(|_| true).iter().map(|(key, list)| (*key, list.orders)).collect();
        left.sort();
        let of = |group, currency, orders| ((group, currency), orders);
        assert_eq!(
            left,
            [
                of(1, usd, 1),
                of(4, usd, 100),
                of(5, jpy, 100),
                of(6, usd, 100),
                of(7, jpy, 100),
                of(8, usd, 101),
                of(9, jpy, 100)
            ]
        );
        assert_eq!((groups.bytes(), groups.rows), (0, 1_002));
    }
}

//! Sales added up by group and currency, with the customers and totals of every sale.

use super::super::totals::{Totals, extend_tight, push_tight};
use crate::base::money::Currency;

/// One group in one currency.
#[derive(Debug, Default)]
pub(in super::super) struct SaleList {
    pub(in super::super) orders: i64,
    pub(in super::super) units: i128,
    pub(in super::super) revenue: i128,
    /// The customer of each sale. Empty if they are in a set for all lists.
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

/// The sales of one shard, by period. The periods of a question are numbered.
#[derive(Debug, Default)]
pub(in super::super) struct SaleGroups {
    /// For each currency, the place of each group's list plus one, or 0 if the group has none yet.
    places: Vec<(Currency, Vec<u32>)>,
    lists: Vec<(GroupKey, SaleList)>,
    bytes: usize,
    /// The customers and totals of a run. The memory is kept from one run to the next.
    run: (Vec<u64>, Vec<u32>),
    /// The number of sales so far.
    pub(in super::super) rows: u64,
}

/// Returns the place of a currency in a list, and adds it with nothing if it is new. A tenant has few.
pub(super) fn place_of<T: Default>(known: &mut Vec<(Currency, T)>, currency: Currency) -> usize {
    match known.iter().position(|(known, _)| *known == currency) {
        Some(place) => place,
        None => {
            known.push((currency, T::default()));
            known.len() - 1
        }
    }
}

impl SaleGroups {
    /// Returns the memory of all lists.
    pub(in super::super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the place of a currency, for [`SaleGroups::push`].
    pub(super) fn currency(&mut self, currency: Currency) -> usize {
        place_of(&mut self.places, currency)
    }

    /// Adds a sale. Takes about 5 ns.
    #[inline]
    pub(super) fn push(&mut self, currency: usize, group: u32, sale: Sale) {
        let place = match self.places[currency].1.get(group as usize) {
            Some(place) if *place > 0 => *place as usize - 1,
            _ => self.list(currency, group),
        };
        let list = &mut self.lists[place].1;
        list.orders += 1;
        list.units += i128::from(sale.units);
        list.revenue += i128::from(sale.total);
        self.bytes += list.totals.push(sale.total);
        self.rows += 1;
        self.bytes += push_tight(&mut list.customers, sale.customer);
    }

    /// Adds consecutive sales of one group. For each order: `true` if it is a sale, the customer, the total, which is the
    /// revenue, and the units. Returns `false` and adds none if a number does not fit into 32 bits. Takes about 2 ns an
    /// order, because no branch depends on it.
    #[inline]
    pub(super) fn push_run(
        &mut self,
        currency: usize,
        group: u32,
        orders: impl ExactSizeIterator<Item = (bool, i64, i64, i64)>,
    ) -> bool {
        let len = orders.len();
        if self.run.0.len() < len {
            self.run.0.resize(len, 0);
            self.run.1.resize(len, 0);
        }
        let (customers, totals) = (&mut self.run.0[..len], &mut self.run.1[..len]);
        let (mut count, mut wide, mut all_units, mut revenue) = (0, 0, 0_u64, 0_u64);
        for (is_sale, customer, total, units) in orders {
            // The place of an order that is no sale is the next one's.
            (customers[count], totals[count]) = (customer as u64, total as u32);
            count += usize::from(is_sale);
            let mask = u64::from(is_sale).wrapping_neg();
            let (total, units) = (total as u64 & mask, units as u64 & mask);
            wide |= total | units;
            all_units = all_units.wrapping_add(units);
            revenue = revenue.wrapping_add(total);
        }
        if wide > u64::from(u32::MAX) {
            return false;
        }
        if count == 0 {
            return true;
        }
        let place = match self.places[currency].1.get(group as usize) {
            Some(place) if *place > 0 => *place as usize - 1,
            _ => self.list(currency, group),
        };
        let list = &mut self.lists[place].1;
        list.orders += count as i64;
        list.units += i128::from(all_units);
        list.revenue += i128::from(revenue);
        self.rows += count as u64;
        self.bytes += list.totals.extend_small(&self.run.1[..count]);
        self.bytes += extend_tight(&mut list.customers, self.run.0[..count].iter().copied());
        true
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

/// One sale. Its revenue is the total.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sale {
    pub(super) customer: u64,
    pub(super) total: i64,
    pub(super) units: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sales_are_counted_in_their_group_and_currency_and_bytes_are_those_of_the_lists() {
        let (usd, jpy) = (Currency::parse("USD").unwrap(), Currency::parse("JPY").unwrap());
        let mut groups = SaleGroups::default();
        let places = [groups.currency(usd), groups.currency(jpy), groups.currency(usd)];
        assert_eq!(places, [0, 1, 0]);
        for n in 0..1_000_u32 {
            let sale = Sale { customer: u64::from(n % 7), total: i64::from(n) << 24, units: 2 };
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
            let revenue = i128::from(49_500 + 100 * group) << 24;
            assert_eq!((list.orders, list.units, list.revenue), (100, 200, revenue));
            assert_eq!((list.customers.len(), list.totals.len()), (100, 100));
        }
        assert!(is_near(&groups));
        groups.push(0, 8, Sale { customer: 1, total: 1, units: 1 });
        groups.push(0, 1, Sale { customer: 1, total: 1, units: 1 });
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

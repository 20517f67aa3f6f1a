//! An order's status, and the codes under which it is stored.

/// An order's status. The codes are stored and never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum OrderStatus {
    Pending = 1,
    Paid = 2,
    Shipped = 3,
    Delivered = 4,
    Cancelled = 5,
    Refunded = 6,
}

impl OrderStatus {
    /// Every status, in ascending order of its code.
    pub const ALL: [OrderStatus; 6] = [
        OrderStatus::Pending,
        OrderStatus::Paid,
        OrderStatus::Shipped,
        OrderStatus::Delivered,
        OrderStatus::Cancelled,
        OrderStatus::Refunded,
    ];

    /// Returns the status with this lower-case name.
    #[must_use]
    #[inline]
    pub fn parse(name: &str) -> Option<OrderStatus> {
        OrderStatus::ALL.into_iter().find(|status| status.as_str() == name)
    }

    /// Returns the lower-case name that orders contain.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            OrderStatus::Pending => "pending",
            OrderStatus::Paid => "paid",
            OrderStatus::Shipped => "shipped",
            OrderStatus::Delivered => "delivered",
            OrderStatus::Cancelled => "cancelled",
            OrderStatus::Refunded => "refunded",
        }
    }

    /// Returns the stored code: 1 to 6.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the status with this stored code.
    #[must_use]
    pub fn from_code(code: u8) -> Option<OrderStatus> {
        OrderStatus::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }

    /// Returns `true` if the order counts as a sale: it is neither cancelled nor refunded.
    #[must_use]
    pub const fn is_sale(self) -> bool {
        !matches!(self, OrderStatus::Cancelled | OrderStatus::Refunded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_stay_what_they_are() {
        let known = [
            ("pending", 1, true),
            ("paid", 2, true),
            ("shipped", 3, true),
            ("delivered", 4, true),
            ("cancelled", 5, false),
            ("refunded", 6, false),
        ];
        assert_eq!(OrderStatus::ALL.map(|status| (status.as_str(), status.code(), status.is_sale())), known);
        for status in OrderStatus::ALL {
            assert_eq!(OrderStatus::parse(status.as_str()), Some(status));
            assert_eq!(OrderStatus::from_code(status.code()), Some(status));
        }
        for name in ["", "Paid", "paid ", "canceled", "unknown"] {
            assert_eq!(OrderStatus::parse(name), None, "{name:?}");
        }
        for code in [0, 7, 255] {
            assert_eq!(OrderStatus::from_code(code), None);
        }
    }
}

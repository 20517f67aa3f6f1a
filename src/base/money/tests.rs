//! Amounts: a table of spellings, and agreement with arithmetic on wide integers.

use proptest::prelude::*;

use super::*;

fn written(minor: i64, digits: u8) -> String {
    let mut out = b"=".to_vec();
    write_decimal(minor, digits, &mut out);
    String::from_utf8(out).expect("digits").split_off(1)
}

#[test]
fn a_decimal_is_read_exactly_or_refused() {
    for (text, digits, minor) in [
        ("19.99", 2, 1999),
        ("5", 2, 500),
        ("0.5", 2, 50),
        ("0", 2, 0),
        ("0.00", 0, 0),
        ("007.50", 2, 750),
        ("19.9900", 2, 1999),
        ("500", 0, 500),
        ("500.000", 0, 500),
        ("1.234", 3, 1234),
        ("0.0001", 4, 1),
        ("92233720368547758.07", 2, i64::MAX),
        ("9223372036854775807", 0, i64::MAX),
        ("0000000000000000000000000000019.99", 2, 1999),
        ("19.990000000000000000000000000000000", 2, 1999),
        ("0.000000000000000000000000000000000", 2, 0),
    ] {
        assert_eq!(parse_decimal(text.as_bytes(), digits), Ok(minor), "{text}");
        assert_eq!(parse_number(text.as_bytes(), digits), Ok(minor), "{text}");
    }
    for text in [
        "", "-", "+5", " 5", "5 ", "1,000", "1.000,00", "NaN", "Infinity", "-inf", ".5", "5.", ".", "1..2",
        "1.2.3", "0x1", "--5", "-+5", "\u{661}", "5\0", "1_000", "$5", "5-", "1.-5", "-.5", "1e", "1e+",
        "e5", "1e5.0", "1e5e5", "1.e5",
    ] {
        assert_eq!(parse_decimal(text.as_bytes(), 2), Err(MoneyError::NotADecimal), "{text}");
        assert_eq!(parse_number(text.as_bytes(), 2), Err(MoneyError::NotADecimal), "{text}");
    }
    for (text, digits, error) in [
        ("-5", 2, MoneyError::Negative),
        ("-0", 2, MoneyError::Negative),
        ("-0.001", 2, MoneyError::Negative),
        ("19.999", 2, MoneyError::TooManyDigits),
        ("0.5", 0, MoneyError::TooManyDigits),
        ("0.00000000000000000000000000001", 4, MoneyError::TooManyDigits),
        ("99999999999999999999999.999", 2, MoneyError::TooManyDigits),
        ("92233720368547758.08", 2, MoneyError::TooLarge),
        ("9223372036854775808", 0, MoneyError::TooLarge),
        ("100000000000000000", 2, MoneyError::TooLarge),
        ("99999999999999999999999999999999999999999999", 0, MoneyError::TooLarge),
    ] {
        assert_eq!(parse_decimal(text.as_bytes(), digits), Err(error), "{text}");
        assert_eq!(parse_number(text.as_bytes(), digits), Err(error), "{text}");
    }
}

#[test]
fn a_bound_may_lie_beyond_every_amount() {
    let nines = "9".repeat(38);
    let (beyond, below) = (format!("1{nines}"), format!("-1{nines}.5"));
    for (text, digits, verdict) in [
        ("10.5", 4, Ok(105_000)),
        ("0", 4, Ok(0)),
        ("-0.00", 4, Ok(0)),
        ("-5", 4, Ok(-50_000)),
        ("922337203685478", 4, Ok(9_223_372_036_854_780_000)),
        ("9223372036854775808", 4, Ok(92_233_720_368_547_758_080_000)),
        (&nines, 0, Ok(10_i128.pow(38) - 1)),
        (&nines, 4, Ok(i128::MAX)),
        (&beyond, 0, Ok(i128::MAX)),
        (&below, 4, Ok(-i128::MAX)),
        ("1.00001", 4, Err(MoneyError::TooManyDigits)),
        ("1e3", 4, Err(MoneyError::NotADecimal)),
        ("--1", 4, Err(MoneyError::NotADecimal)),
        ("", 4, Err(MoneyError::NotADecimal)),
    ] {
        assert_eq!(parse_bound(text.as_bytes(), digits), verdict, "{text}");
    }
}

#[test]
fn an_exponent_is_for_numbers_and_must_come_out_even() {
    let nines = format!("1e{}", "9".repeat(1000));
    let minus_nines = format!("1e-{}", "9".repeat(1000));
    let zero = format!("0e{}", "9".repeat(1000));
    for (text, digits, verdict) in [
        ("1e2", 2, Ok(10_000)),
        ("1.5E+1", 2, Ok(1500)),
        ("1999e-2", 2, Ok(1999)),
        ("19990e-3", 2, Ok(1999)),
        ("1e-2", 2, Ok(1)),
        ("1e00000000000000000000000002", 0, Ok(100)),
        ("0.000000000000000000000000000001e30", 0, Ok(1)),
        ("9223372036854775807e0", 0, Ok(i64::MAX)),
        ("1e-3", 2, Err(MoneyError::TooManyDigits)),
        ("1.5e0", 0, Err(MoneyError::TooManyDigits)),
        ("1e18", 0, Ok(1_000_000_000_000_000_000)),
        ("1e18", 2, Err(MoneyError::TooLarge)),
        ("1e19", 0, Err(MoneyError::TooLarge)),
        ("-1e2", 2, Err(MoneyError::Negative)),
        (&*nines, 2, Err(MoneyError::TooLarge)),
        (&*minus_nines, 2, Err(MoneyError::TooManyDigits)),
        (&*zero, 2, Ok(0)),
    ] {
        assert_eq!(parse_number(text.as_bytes(), digits), verdict, "{text}");
        assert_eq!(parse_decimal(text.as_bytes(), digits), Err(MoneyError::NotADecimal), "{text}");
    }
}

#[test]
fn an_amount_is_written_with_all_digits_of_its_currency() {
    for (minor, digits, text) in [
        (1999, 2, "19.99"),
        (-5, 2, "-0.05"),
        (-1234, 2, "-12.34"),
        (0, 2, "0.00"),
        (500, 0, "500"),
        (-500, 0, "-500"),
        (7, 4, "0.0007"),
        (10_000, 4, "1.0000"),
        (i64::MAX, 2, "92233720368547758.07"),
        (i64::MIN, 3, "-9223372036854775.808"),
        (i64::MIN, 0, "-9223372036854775808"),
    ] {
        assert_eq!(written(minor, digits), text);
    }
}

/// Returns the expected result for a valid decimal, computed with 128-bit arithmetic, for exponents up to 19.
fn expected(whole: u64, fraction: &str, exponent: i32, digits: u8) -> Result<i64, MoneyError> {
    let mantissa: i128 = format!("{whole}{fraction}").parse().expect("at most 30 digits");
    let power = exponent - fraction.len() as i32 + i32::from(digits);
    let ten = |power: i32| 10_i128.pow(power.unsigned_abs());
    if power < 0 {
        // The mantissa has at most 30 digits, so a larger divisor leaves a remainder too.
        let divisor = ten(power.max(-38));
        if mantissa % divisor != 0 {
            return Err(MoneyError::TooManyDigits);
        }
        return i64::try_from(mantissa / divisor).map_err(|_| MoneyError::TooLarge);
    }
    let minor = mantissa.checked_mul(ten(power)).and_then(|minor| i64::try_from(minor).ok());
    minor.ok_or(MoneyError::TooLarge)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_written_is_read_back(minor in prop_oneof![0..=i64::MAX, 0..100_000_i64], digits in 0..=4_u8) {
        let text = written(minor, digits);
        prop_assert_eq!(parse_decimal(text.as_bytes(), digits), Ok(minor));
        prop_assert_eq!(parse_number(text.as_bytes(), digits), Ok(minor));
        prop_assert_eq!(written(-minor, digits), if minor == 0 { text } else { format!("-{text}") });
    }

    #[test]
    fn any_decimal_is_what_wide_arithmetic_says(
        whole in prop_oneof![any::<u64>(), 0..2000_u64, 92_233_720_368_547_750..92_233_720_368_547_760_u64],
        fraction in prop_oneof!["[0-9]{0,10}", "[0-9]{0,4}0{0,6}"],
        exponent in prop_oneof![3 => Just(0), 1 => -19..=19_i32],
        zeros in 0..30_usize,
        digits in 0..=4_u8,
    ) {
        let point = if fraction.is_empty() { "" } else { "." };
        let decimal = format!("{}{whole}{point}{fraction}", "0".repeat(zeros));
        prop_assert_eq!(parse_decimal(decimal.as_bytes(), digits), expected(whole, &fraction, 0, digits));
        let number = format!("{decimal}e{exponent}");
        prop_assert_eq!(parse_number(number.as_bytes(), digits), expected(whole, &fraction, exponent, digits));
        prop_assert_eq!(parse_number(format!("-{number}").as_bytes(), digits), Err(MoneyError::Negative));
    }

    #[test]
    fn what_is_taken_is_a_decimal_and_arbitrary_bytes_never_panic(
        text in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"0123456789.-+e".to_vec())], 0..30),
        digits in any::<u8>(),
    ) {
        type Parse = fn(&[u8], u8) -> Result<i64, MoneyError>;
        let ways: [(Parse, &[u8]); 2] = [(parse_decimal, b"."), (parse_number, b".eE+-")];
        for (parse, other) in ways {
            if parse(&text, digits).is_ok() {
                prop_assert!(text.iter().all(|byte| byte.is_ascii_digit() || other.contains(byte)));
                prop_assert!(std::str::from_utf8(&text).unwrap().parse::<f64>().is_ok());
            }
        }
    }
}

//! Numbers in prototxt, with the digits that protobuf prints.

/// A float with 6 significant digits, or with 9 where it takes more to read the same value back.
pub(super) fn print_f32(value: f32) -> String {
    let short = general(value.into(), 6);
    if short.parse() == Ok(value) || value.is_nan() { short } else { general(value.into(), 9) }
}

/// A double with 15 significant digits, or with 17 where it takes more to read the same value back.
pub(super) fn print_f64(value: f64) -> String {
    let short = general(value, 15);
    if short.parse() == Ok(value) || value.is_nan() { short } else { general(value, 17) }
}

/// C's `%.*g`: `digits` significant digits without trailing zeros, an exponent for numbers below 1e-4 or with
/// more digits before the point.
fn general(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        let name = if value.is_nan() { "nan" } else { "inf" };
        return if value == f64::NEG_INFINITY { format!("-{name}") } else { name.to_string() };
    }
    let scientific = format!("{:.*e}", digits - 1, value);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_string(),
        false => s.to_string(),
    };
    if (-4..digits as i32).contains(&exponent) {
        return trim(&format!("{:.*}", (digits as i32 - 1 - exponent) as usize, value));
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", trim(mantissa), exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_have_protobufs_digits() {
        for (value, text) in [
            (0.1, "0.1"),
            (1.0, "1"),
            (-0.0, "-0"),
            (0.00390625, "0.00390625"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (1e10, "1e+10"),
            (100000.0, "100000"),
            (1000000.0, "1e+06"),
            (1234567.0, "1234567"),
            (1.0 / 3.0, "0.333333343"),
            (104.00699, "104.006989"),
            (f32::MAX, "3.40282347e+38"),
            (f32::MIN_POSITIVE, "1.17549435e-38"),
            (f32::from_bits(1), "1.4013e-45"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
            (f32::NAN, "nan"),
        ] {
            assert_eq!(print_f32(value), text);
        }
        assert_eq!(print_f64(0.1), "0.1");
        assert_eq!(print_f64(1.0 / 3.0), "0.33333333333333331");
        assert_eq!(print_f64(1e-9), "1e-09");
    }

    #[test]
    fn floats_read_back() {
        let mut bits = 1_u32;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = f32::from_bits(bits);
            if !value.is_nan() {
                assert_eq!(print_f32(value).parse(), Ok(value));
            }
        }
    }
}

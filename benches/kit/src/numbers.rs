//! Numbers for people.

/// Seconds, in the unit that fits.
pub fn duration(value: Option<f64>) -> String {
    or_dash(value, |seconds| match seconds {
        s if s >= 1.0 => format!("{} s", significant(s)),
        s if s >= 1e-3 => format!("{} ms", significant(s * 1e3)),
        s if s >= 1e-6 => format!("{} µs", significant(s * 1e6)),
        s => format!("{} ns", significant(s * 1e9)),
    })
}

/// "×"-less ratio: three digits below ten, fewer above.
pub fn ratio(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v if v >= 0.1 => format!("{v:.2}"),
        v => format!("{v:.3}"),
    }
}

/// Three significant digits.
pub fn significant(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => grouped(value.round() as i64),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        v if v >= 0.001 => format!("{value:.3}"),
        _ => "0".into(),
    }
}

/// The value in words, or a dash where there is none.
pub fn or_dash<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".into(), show)
}

/// In thousands or millions.
pub fn scaled(value: f64, scales: &[(f64, &str)]) -> String {
    match scales.iter().find(|(scale, _)| value >= *scale) {
        Some((scale, name)) => format!("{}{name}", significant(value / scale)),
        None => significant(value),
    }
}

/// "12,345".
fn grouped(value: i64) -> String {
    let digits = value.abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(significant(1_234_567.4), "1,234,567");
        assert_eq!(significant(-100.0), "-100");
        assert_eq!(significant(12.345), "12.3");
        assert_eq!(significant(0.1234), "0.123");
        assert_eq!(ratio(58.04), "58.0");
        assert_eq!(ratio(0.0071), "0.007");
        assert_eq!(duration(Some(0.000_012_3)), "12.3 µs");
        assert_eq!(duration(None), "–");
    }
}

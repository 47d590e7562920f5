//! Figures as people read them.

use crate::sample::Metric;

/// A figure with its unit, rounded to what a run can tell apart.
pub fn figure(metric: Metric, value: f64) -> String {
    match metric {
        Metric::InstructionsPerTransaction
        | Metric::CyclesPerTransaction
        | Metric::SwitchesPerTransaction
        | Metric::SegmentsPerTransaction
        | Metric::InstructionsPerByte => number(value),
        Metric::BusyPerTransactionUs
        | Metric::RouteCpuPerTransactionUs
        | Metric::P50Us
        | Metric::P99Us
        | Metric::P999Us
        | Metric::LongestUs
        | Metric::LoadUs => microseconds(value),
        Metric::RatePerS => format!("{}/s", number(value)),
        Metric::BytesPerS => format!("{} MB/s", number(value / 1e6)),
        Metric::BusyPerByteNs | Metric::PacketNs => format!("{} ns", number(value)),
        Metric::RouteCpuS => format!("{} s", number(value)),
        Metric::UserBytesPerSession
        | Metric::TotalBytesPerSession
        | Metric::BaseBytes
        | Metric::HeldBytes
        | Metric::HeldMemoryBytes
        | Metric::HeldKernelBytes
        | Metric::PolicyBytes => bytes(value),
        Metric::Logins => number(value.round()),
    }
}

/// A bar's value or bound, with its unit where that is not a ratio.
pub fn in_unit(unit: &str, value: f64) -> String {
    match unit {
        "ratio" => ratio(value),
        "bytes" => bytes(value),
        "us" => microseconds(value),
        unit => format!("{} {unit}", number(value)),
    }
}

/// A ratio: two decimals, three below a tenth.
pub fn ratio(value: f64) -> String {
    if value.abs() < 0.1 {
        format!("{value:.3}")
    } else {
        format!("{value:.2}")
    }
}

/// A number with three digits that count, or with all before its point.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let decimals = match size {
        _ if size >= 100.0 || size == 0.0 => 0,
        _ if size >= 10.0 => 1,
        _ if size >= 1.0 => 2,
        _ => 3,
    };
    let text = format!("{size:.decimals$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let is_zero = text.chars().all(|it| matches!(it, '0' | '.'));
    let sign = if value < 0.0 && !is_zero { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    format!("{sign}{grouped}{point}{fraction}")
}

/// A number of bytes; KiB and MiB where that is shorter.
pub fn bytes(value: f64) -> String {
    const KIB: f64 = 1024.0;
    match value.abs() {
        size if size >= 1024.0 * KIB => format!("{} MiB", number(value / KIB / KIB)),
        size if size >= 10.0 * KIB => format!("{} KiB", number(value / KIB)),
        _ => format!("{} B", number(value.round())),
    }
}

fn microseconds(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{} s", number(value / 1e6)),
        size if size >= 1e4 => format!("{} ms", number(value / 1e3)),
        _ => format!("{} µs", number(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_shows_what_a_run_can_tell_apart() {
        let cases = [
            (0.0, "0"),
            (0.0004, "0.000"),
            (-0.0004, "0.000"),
            (0.25, "0.250"),
            (1.0, "1.00"),
            (-28.04, "-28.0"),
            (999.6, "1,000"),
            (1_234_567.8, "1,234,568"),
            (-43_210.0, "-43,210"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value), text, "{value}");
        }
    }

    #[test]
    fn a_unit_is_changed_only_where_that_is_shorter() {
        assert_eq!(bytes(352.0), "352 B");
        assert_eq!(bytes(2_048.0), "2,048 B");
        assert_eq!(bytes(12_288.0), "12.0 KiB");
        assert_eq!(bytes(262_144.0), "256 KiB");
        assert_eq!(figure(Metric::P99Us, 312.4), "312 µs");
        assert_eq!(figure(Metric::P99Us, 12_345.0), "12.3 ms");
        assert_eq!(figure(Metric::BytesPerS, 512e6), "512 MB/s");
    }
}

//! Whether two series of times differ.

/// Welch's t of two series: how far their means are from each other, in standard errors.
#[must_use]
pub fn welch(one: &[f64], other: &[f64]) -> f64 {
    let ((mean_one, error_one), (mean_other, error_other)) = (moments(one), moments(other));
    (mean_one - mean_other) / (error_one + error_other).sqrt()
}

/// The mean, and the variance of the mean.
#[expect(
    clippy::cast_precision_loss,
    reason = "there are some thousands of values"
)]
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|it| (it - mean).powi(2)).sum();
    (mean, squares / (count - 1.0) / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_known_numbers_are_as_far_apart_as_they_are() {
        // The means are 5/2 and 5, and their variances 5/12 and 4/3.
        let (few, fewer) = ([1.0, 2.0, 3.0, 4.0], [3.0, 5.0, 7.0]);
        let expected = -2.5 / 1.75_f64.sqrt();
        assert!((welch(&few, &fewer) - expected).abs() < 1e-12);
        assert!((welch(&fewer, &few) + expected).abs() < 1e-12);
        assert!(welch(&few, &few).abs() < 1e-12);
        let later = few.map(|it| it + 5.0);
        assert!(welch(&few, &later) < -4.5, "{}", welch(&few, &later));
    }
}

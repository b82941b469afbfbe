//! Medians over rounds.

/// The middle figure, of those that are numbers.
pub fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<_> = figures.filter(|figure| figure.is_finite()).collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

/// The median of the ratios, each within a round.
pub fn median_ratio(figures: &[Option<f64>], references: &[Option<f64>]) -> Option<f64> {
    let pairs = figures.iter().zip(references);
    median(pairs.filter_map(|(figure, reference)| Some((*figure)? / (*reference)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let row = [Some(2.0), None, Some(9.0), Some(4.0)];
        let raw = [Some(1.0), Some(1.0), Some(3.0), Some(1.0)];
        assert_eq!(median_ratio(&row, &raw), Some(3.0));
        assert_eq!(median_ratio(&row, &[None, None, None, None]), None);
    }
}

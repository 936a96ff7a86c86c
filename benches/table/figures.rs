//! The arithmetic of the table: medians, ratios of rounds, fairness. It is pure;
//! tests/bench_report.rs tests it.

/// Median and range of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MedianRange {
    /// The middle one, or the mean of the two.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl MedianRange {
    /// Median and range of these figures, if there is one; figures that are not numbers are left
    /// out.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<MedianRange> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|f| f.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let (low, high) = (sorted.get((sorted.len() - 1) / 2)?, sorted.get(sorted.len() / 2)?);
        Some(MedianRange { median: f64::midpoint(*low, *high), least, most })
    }
}

/// MedianRange of `ours[i] / theirs[i]` over the rounds in which both have a figure.
pub fn ratio_of_rounds(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<MedianRange> {
    MedianRange::of(ours.iter().zip(theirs).filter_map(|(a, b)| Some((*a)? / (*b)?)))
}

/// The figure below which this share (0 to 1) of the figures lies; sorts them.
pub fn percentile(figures: &mut [u32], share: f64) -> Option<u32> {
    figures.sort_unstable();
    let at = ((figures.len() as f64 * share) as usize).min(figures.len().checked_sub(1)?);
    figures.get(at).copied()
}

/// Jain's index of fairness: 1 when all have the same, 1/n when one has all. None without any.
pub fn jain(shares: &[u64]) -> Option<f64> {
    let sum: f64 = shares.iter().map(|s| *s as f64).sum();
    let squares: f64 = shares.iter().map(|s| (*s as f64).powi(2)).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

//! What sequences that Python sees have in common.

use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;

/// The place that an index of a sequence names: from its end, where negative.
pub fn place_of(index: &Bound<'_, PyAny>, count: usize) -> PyResult<usize> {
    let index: isize = index.extract()?;
    let place = if index < 0 { index + count as isize } else { index };
    let place = usize::try_from(place).ok().filter(|place| *place < count);
    place.ok_or_else(|| PyIndexError::new_err(format!("nothing at {index} of {count}")))
}

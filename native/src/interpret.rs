//! Reading one Segment message: `domain.calls.interpret`, and for tracks `domain.tracks.occurrence` besides.

use crate::call::Read;
use crate::definitions::Definitions;
use crate::rules::Rules;

/// Read a record's value; `timestamp_ms` is the Kafka time of the source record.
pub fn interpret<'a>(_value: &'a [u8], _timestamp_ms: i64, _rules: &Rules, _definitions: &Definitions) -> Read<'a> {
    Read::Defer
}

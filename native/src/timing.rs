//! `domain.timing`: when a message happened. Times are microseconds since 1970-01-01 UTC.

use std::fmt::Write;

use jiter::JsonValue;

use crate::call::{Deferred, Warning, FUTURE_TIME, UNREADABLE_TIME};
use crate::conversion::shortest;
use crate::decoding::{get, Object};

/// The first microsecond of the year 10000.
const END: i64 = 253_402_300_800_000_000;
const DAY_US: i64 = 86_400_000_000;
const DAYS_BEFORE_1970: i64 = 719_468;

/// `event_time`: the event time of a message; what was odd about its times is added to `warnings`.
pub fn event_time(
    payload: &Object,
    timestamp_ms: i64,
    future_tolerance_us: i64,
    warnings: &mut Vec<Warning>,
) -> Result<i64, Deferred> {
    let received = read(payload, "receivedAt", warnings)?;
    let time = read(payload, "timestamp", warnings)?;
    let arrived = received.unwrap_or_else(|| timestamp_ms.max(0).saturating_mul(1000).min(END - 1));
    let time = match time {
        Some(time) => time,
        None => match corrected_time(payload, received, warnings)? {
            Some(time) => time,
            None => return Ok(arrived),
        },
    };
    let limit = arrived.saturating_add(future_tolerance_us);
    if time > limit {
        warnings.push(FUTURE_TIME);
        return Ok(limit);
    }
    Ok(time)
}

fn corrected_time(
    payload: &Object,
    received: Option<i64>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<i64>, Deferred> {
    let original = read(payload, "originalTimestamp", warnings)?;
    let sent = read(payload, "sentAt", warnings)?;
    let (Some(original), Some(sent), Some(received)) = (original, sent, received) else {
        return Ok(original);
    };
    let time = received - (sent - original);
    Ok(Some(if (0..END).contains(&time) { time } else { original }))
}

fn read(payload: &Object, key: &str, warnings: &mut Vec<Warning>) -> Result<Option<i64>, Deferred> {
    let Some(value) = get(payload, key) else {
        return Ok(None);
    };
    let time = read_time(value)?;
    if time.is_none() {
        warnings.push(UNREADABLE_TIME);
    }
    Ok(time)
}

fn read_time(value: &JsonValue) -> Result<Option<i64>, Deferred> {
    Ok(match value {
        JsonValue::Str(text) => read_iso(text)?,
        JsonValue::Int(number) => (0..END / 1000).contains(number).then(|| number * 1000),
        JsonValue::Float(number) if *number >= 0.0 && *number < (END / 1000) as f64 => Some(milliseconds(*number)),
        _ => None,
    })
}

/// Microseconds of a number of milliseconds, by the decimal digits that stand for it; beyond them they are cut off.
fn milliseconds(number: f64) -> i64 {
    let (digits, exponent) = shortest(number.abs());
    let scale = exponent + 3;
    if scale >= 0 {
        return digits * 10_i64.pow(scale as u32);
    }
    10_i64.checked_pow(scale.unsigned_abs()).map_or(0, |divisor| digits / divisor)
}

/// `read_iso`: the time that an ISO 8601 text with an offset, or a bare date, names; None when it is unreadable.
///
/// Whether there is an hour 24 depends on the version of Python, so it is deferred.
pub fn read_iso(text: &str) -> Result<Option<i64>, Deferred> {
    match parts(text.as_bytes()) {
        Some(parts) if parts.hour == 24 => Err(Deferred),
        Some(parts) => Ok(parts.time()),
        None => Ok(None),
    }
}

#[derive(Default)]
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    minute: i64,
    second: i64,
    microsecond: i64,
    /// Of the zone, east of Greenwich.
    offset_us: i64,
}

/// Take a text apart; None where it has not the form.
fn parts(text: &[u8]) -> Option<Parts> {
    if text.len() < 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let mut parts = Parts {
        year: two_digits(text)? * 100 + two_digits(&text[2..])?,
        month: two_digits(&text[5..])?,
        day: two_digits(&text[8..])?,
        ..Parts::default()
    };
    let clock = match text[10..].split_first() {
        None => return Some(parts),
        Some((b'T' | b't' | b' ', clock)) => clock,
        Some(_) => return None,
    };
    if clock.len() < 6 || clock[2] != b':' {
        return None;
    }
    parts.hour = two_digits(clock)?;
    parts.minute = two_digits(&clock[3..])?;
    let mut rest = &clock[5..];
    if let Some((b':', seconds)) = rest.split_first() {
        parts.second = two_digits(seconds)?;
        rest = &seconds[2..];
        if let Some((b'.' | b',', fraction)) = rest.split_first() {
            let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if length == 0 {
                return None;
            }
            let mut unit = 100_000;
            for digit in &fraction[..length.min(6)] {
                parts.microsecond += i64::from(digit - b'0') * unit;
                unit /= 10;
            }
            rest = &fraction[length..];
        }
    }
    parts.offset_us = offset(rest)?;
    Some(parts)
}

fn offset(zone: &[u8]) -> Option<i64> {
    let (sign, zone) = zone.split_first()?;
    let sign = match sign {
        b'Z' | b'z' => return zone.is_empty().then_some(0),
        b'+' => 60_000_000,
        b'-' => -60_000_000,
        _ => return None,
    };
    let hours = two_digits(zone)?;
    let minutes = match &zone[2..] {
        [] => 0,
        [b':', minutes @ ..] | minutes if minutes.len() == 2 => two_digits(minutes)?,
        _ => return None,
    };
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn two_digits(text: &[u8]) -> Option<i64> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9', ..] => Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0')),
        _ => None,
    }
}

impl Parts {
    /// The time, None where there is no such day or hour, before 1970 and after 9999.
    fn time(&self) -> Option<i64> {
        let is_leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let days = match self.month {
            2 => 28 + i64::from(is_leap),
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => return None,
        };
        if self.year == 0 || !(1..=days).contains(&self.day) || self.hour > 23 || self.minute > 59 || self.second > 59 {
            return None;
        }
        let seconds = (self.hour * 60 + self.minute) * 60 + self.second;
        let time = days_since_1970(self.year, self.month, self.day) * DAY_US + seconds * 1_000_000 + self.microsecond
            - self.offset_us;
        (0..END).contains(&time).then_some(time)
    }
}

/// Days from 1970-01-01 to a date; years are counted from March, so that a leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - DAYS_BEFORE_1970
}

/// `iso_text`: a time as `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`, its fraction without trailing zeros.
pub fn iso_text(time: i64) -> String {
    let (days, within) = (time / DAY_US + DAYS_BEFORE_1970, time % DAY_US);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (seconds, microsecond) = (within / 1_000_000, within % 1_000_000);
    let mut text = String::with_capacity(27);
    let _ = write!(
        text,
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    );
    if microsecond > 0 {
        let _ = write!(text, ".{microsecond:06}");
        text.truncate(text.trim_end_matches('0').len());
    }
    text.push('Z');
    text
}

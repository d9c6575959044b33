//! `domain.conversion`: what a raw JSON value is under a definition, and the form that state keeps it in.

use std::borrow::Cow;
use std::fmt::Write;

use jiter::JsonValue;

use crate::call::{Deferred, Kept};
use crate::decoding::distinct;
use crate::definitions::{Definition, Type};
use crate::names::strip;
use crate::timing::{iso_text, read_iso};

/// A value in its defined type.
pub enum Converted<'v, 'a> {
    /// As it came.
    Same(&'v JsonValue<'a>),
    /// Something else than what came.
    Other(JsonValue<'v>),
    Unconvertible,
}

/// `convert`, for a value that is not null.
pub fn convert<'v, 'a>(value: &'v JsonValue<'a>, definition: &Definition) -> Result<Converted<'v, 'a>, Deferred> {
    use Converted::{Other, Same, Unconvertible};
    Ok(match (definition.kind, value) {
        (Type::String, JsonValue::Str(_)) => Same(value),
        (Type::String, _) => Other(JsonValue::Str(text(value)?)),
        (Type::Number, JsonValue::Int(_) | JsonValue::Float(_)) => Same(value),
        (Type::Number, JsonValue::Str(text)) => number_of_text(strip(text))?.map_or(Unconvertible, Other),
        (Type::Integer, JsonValue::Int(_)) => Same(value),
        (Type::Integer, JsonValue::Float(number)) => {
            let mut text = String::new();
            write_float(*number, &mut text);
            integer_of_text(&text).map_or(Unconvertible, |integer| Other(JsonValue::Int(integer)))
        }
        (Type::Integer, JsonValue::Str(text)) => {
            integer_of_text(strip(text)).map_or(Unconvertible, |integer| Other(JsonValue::Int(integer)))
        }
        (Type::Boolean, JsonValue::Bool(_)) => Same(value),
        (Type::Boolean, _) => boolean(value).map_or(Unconvertible, |boolean| Other(JsonValue::Bool(boolean))),
        (Type::Datetime, JsonValue::Str(text)) => match read_iso(text)?.map(iso_text) {
            None => Unconvertible,
            Some(read) if read == text.as_ref() => Same(value),
            Some(read) => Other(JsonValue::Str(read.into())),
        },
        (Type::FixedChoice, JsonValue::Str(text)) if definition.choices.contains(text.as_ref()) => Same(value),
        (Type::MultipleChoice, JsonValue::Str(text)) if definition.choices.contains(text.as_ref()) => {
            Other(JsonValue::Array(vec![JsonValue::Str(Cow::Borrowed(text))].into()))
        }
        (Type::MultipleChoice, JsonValue::Array(items)) if items.iter().all(|item| is_choice(item, definition)) => {
            Same(value)
        }
        _ => Unconvertible,
    })
}

fn is_choice(value: &JsonValue, definition: &Definition) -> bool {
    matches!(value, JsonValue::Str(text) if definition.choices.contains(text.as_ref()))
}

/// `read_boolean`. No letter beyond ASCII has a lower case that is one of these.
pub fn boolean(value: &JsonValue) -> Option<bool> {
    match value {
        JsonValue::Bool(boolean) => Some(*boolean),
        JsonValue::Str(text) if text.eq_ignore_ascii_case("true") || text == "1" => Some(true),
        JsonValue::Str(text) if text.eq_ignore_ascii_case("false") || text == "0" => Some(false),
        JsonValue::Int(1) => Some(true),
        JsonValue::Int(0) => Some(false),
        JsonValue::Float(number) if *number == 1.0 => Some(true),
        JsonValue::Float(number) if *number == 0.0 => Some(false),
        _ => None,
    }
}

/// The text of a JSON number, taken apart.
struct Numeral<'t> {
    is_negative: bool,
    whole: &'t str,
    /// Without its point; empty where there is none.
    fraction: &'t str,
    exponent: Option<Exponent<'t>>,
}

struct Exponent<'t> {
    is_negative: bool,
    digits: &'t str,
}

impl<'t> Numeral<'t> {
    fn of(text: &'t str) -> Option<Self> {
        let (is_negative, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, mut rest) = digits(rest);
        if whole.is_empty() || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let mut fraction = "";
        if let Some(after) = rest.strip_prefix('.') {
            (fraction, rest) = digits(after);
            if fraction.is_empty() {
                return None;
            }
        }
        let mut exponent = None;
        if let Some(after) = rest.strip_prefix(['e', 'E']) {
            let (is_negative, after) = match after.strip_prefix('-') {
                Some(after) => (true, after),
                None => (false, after.strip_prefix('+').unwrap_or(after)),
            };
            let (digits, after) = digits(after);
            if digits.is_empty() {
                return None;
            }
            exponent = Some(Exponent { is_negative, digits });
            rest = after;
        }
        rest.is_empty().then_some(Self { is_negative, whole, fraction, exponent })
    }
}

/// The digits that a text begins with, and what follows them.
fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// `_to_number` of a text. An integer beyond 64 bits is deferred.
fn number_of_text(text: &str) -> Result<Option<JsonValue<'static>>, Deferred> {
    let Some(numeral) = Numeral::of(text) else {
        return Ok(None);
    };
    if numeral.fraction.is_empty() && numeral.exponent.is_none() {
        return text.parse().map(|integer| Some(JsonValue::Int(integer))).map_err(|_| Deferred);
    }
    let number: f64 = text.parse().map_err(|_| Deferred)?;
    Ok(number.is_finite().then_some(JsonValue::Float(number)))
}

/// `_integer_of_text`: the 64-bit integer that the text of a JSON number names exactly.
fn integer_of_text(text: &str) -> Option<i64> {
    let numeral = Numeral::of(text)?;
    let mut digits = String::with_capacity(text.len());
    digits.push_str(numeral.whole);
    digits.push_str(numeral.fraction);
    let kept = digits.trim_end_matches('0');
    let significant = kept.trim_start_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let exponent = match &numeral.exponent {
        None => 0,
        Some(exponent) => {
            let digits = exponent.digits.trim_start_matches('0');
            if digits.len() > 9 {
                return None;
            }
            let exponent_digits = if digits.is_empty() { 0 } else { digits.parse::<i64>().ok()? };
            if exponent.is_negative {
                -exponent_digits
            } else {
                exponent_digits
            }
        }
    };
    let scale = exponent + numeral.whole.len() as i64 - kept.len() as i64;
    if scale < 0 || significant.len() as i64 + scale > 19 {
        return None;
    }
    let magnitude = significant.parse::<i128>().ok()? * 10_i128.pow(scale as u32);
    i64::try_from(if numeral.is_negative { -magnitude } else { magnitude }).ok()
}

/// `text`, for a value that is not null.
pub fn text<'a>(value: &JsonValue<'a>) -> Result<Cow<'a, str>, Deferred> {
    Ok(match value {
        JsonValue::Str(text) => text.clone(),
        JsonValue::Bool(true) => "true".into(),
        JsonValue::Bool(false) => "false".into(),
        _ => {
            let mut text = String::new();
            write_json(value, &mut text)?;
            text.into()
        }
    })
}

/// `keep`.
pub fn keep<'a>(value: &JsonValue<'a>) -> Result<Kept<'a>, Deferred> {
    Ok(match value {
        JsonValue::Null => Kept::Null,
        JsonValue::Bool(boolean) => Kept::Bool(*boolean),
        JsonValue::Int(number) => Kept::Int(*number),
        JsonValue::Float(number) => Kept::Float(*number),
        JsonValue::Str(text) => Kept::Text(text.clone()),
        JsonValue::Array(_) | JsonValue::Object(_) => Kept::Json(text(value)?),
    })
}

/// Append compact JSON as Python's encoder writes it, without escapes of what is not ASCII.
pub fn write_json(value: &JsonValue, out: &mut String) -> Result<(), Deferred> {
    match value {
        JsonValue::Null => out.push_str("null"),
        JsonValue::Bool(true) => out.push_str("true"),
        JsonValue::Bool(false) => out.push_str("false"),
        JsonValue::Int(number) => {
            let _ = write!(out, "{number}");
        }
        JsonValue::Float(number) => write_float(*number, out),
        JsonValue::Str(text) => write_text(text, out),
        JsonValue::Array(items) => {
            out.push('[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_json(item, out)?;
            }
            out.push(']');
        }
        JsonValue::Object(object) => {
            distinct(object)?;
            out.push('{');
            for (place, (name, item)) in object.iter().enumerate() {
                if place > 0 {
                    out.push(',');
                }
                write_text(name, out);
                out.push(':');
                write_json(item, out)?;
            }
            out.push('}');
        }
    }
    Ok(())
}

/// Append a JSON string.
pub fn write_text(text: &str, out: &mut String) {
    out.push('"');
    let mut written = 0;
    for (place, byte) in text.bytes().enumerate() {
        if byte >= b' ' && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[written..place]);
        written = place + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\x08' => out.push_str("\\b"),
            b'\x0c' => out.push_str("\\f"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[written..]);
    out.push('"');
}

/// Append `repr` of a float: shortest digits, ties to even, with an exponent below 1e-4 and from 1e16 on.
pub fn write_float(number: f64, out: &mut String) {
    let magnitude = number.abs();
    if number == 0.0 || (1e-4..1e16).contains(&magnitude) {
        out.push_str(ryu::Buffer::new().format_finite(number));
        return;
    }
    let (digits, exponent) = shortest(magnitude);
    let digits = digits.to_string();
    let (first, further) = digits.split_at(1);
    let point = if further.is_empty() { "" } else { "." };
    let sign = if number < 0.0 { "-" } else { "" };
    let exponent = exponent + further.len() as i32;
    let exponent_sign = if exponent < 0 { '-' } else { '+' };
    let _ = write!(out, "{sign}{first}{point}{further}e{exponent_sign}{:02}", exponent.abs());
}

/// The shortest decimal digits that stand for a float that is not negative, and the power of ten that they count.
pub fn shortest(number: f64) -> (i64, i32) {
    let mut buffer = ryu::Buffer::new();
    let text = buffer.format_finite(number);
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = whole.bytes().chain(fraction.bytes()).fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
    (digits, exponent.parse::<i32>().unwrap_or(0) - fraction.len() as i32)
}

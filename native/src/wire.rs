//! Kafka's message format v2, byte by byte: the header of a record batch, and the records behind it.
//!
//! The records of a batch are `length, attributes, time delta, offset delta, key, value, headers`, all lengths and
//! deltas zigzag varints, a length of -1 for what is null; headers are a count, then key and value of each.

/// Size of a batch's header; the records follow.
pub const HEADER_BYTES: usize = 61;
/// Size of the fields that the length of a batch does not count.
pub const BEFORE_LENGTH_BYTES: usize = 12;
/// What the checksum covers begins here.
pub const ATTRIBUTES_AT: usize = 21;
pub const MAGIC_AT: usize = 16;

const LENGTH_AT: usize = 8;
const LEADER_EPOCH_AT: usize = 12;
const CRC_AT: usize = 17;
const LAST_DELTA_AT: usize = 23;
const FIRST_TIME_AT: usize = 27;
const MAX_TIME_AT: usize = 35;
const PRODUCER_ID_AT: usize = 43;
const PRODUCER_EPOCH_AT: usize = 51;
const BASE_SEQUENCE_AT: usize = 53;
const COUNT_AT: usize = 57;

const MAGIC: u8 = 2;
const NO_LEADER_EPOCH: i32 = -1;

pub const CODEC_MASK: i16 = 0x07;
pub const CODEC_NONE: i16 = 0;
pub const CODEC_ZSTD: i16 = 4;
pub const LOG_APPEND_TIME: i16 = 0x08;
pub const TRANSACTIONAL: i16 = 0x10;
pub const CONTROL: i16 = 0x20;

/// What is wrong with bytes that are no record batch.
pub type Corrupt = String;

/// The header of a record batch; its magic byte, length and checksum are not kept.
#[derive(Clone, Debug, Default)]
pub struct Header {
    pub base_offset: i64,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Milliseconds since 1970-01-01 UTC, as is the next.
    pub first_time: i64,
    pub max_time: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub count: i32,
}

fn field<const N: usize>(data: &[u8], at: usize) -> [u8; N] {
    data[at..at + N].try_into().expect("a slice of that size")
}

/// How many bytes follow the length of the batch that begins at `at`; None where so much is not there.
pub fn batch_length(data: &[u8], at: usize) -> Option<i32> {
    (data.len() >= at + BEFORE_LENGTH_BYTES).then(|| i32::from_be_bytes(field(data, at + LENGTH_AT)))
}

impl Header {
    /// Read the header of a batch, which is given from its first byte on.
    pub fn read(batch: &[u8]) -> Result<Self, Corrupt> {
        if batch.len() < HEADER_BYTES {
            return Err(format!("expected a batch of {HEADER_BYTES} bytes and more, came {}", batch.len()));
        }
        Ok(Self {
            base_offset: i64::from_be_bytes(field(batch, 0)),
            crc: u32::from_be_bytes(field(batch, CRC_AT)),
            attributes: i16::from_be_bytes(field(batch, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(field(batch, LAST_DELTA_AT)),
            first_time: i64::from_be_bytes(field(batch, FIRST_TIME_AT)),
            max_time: i64::from_be_bytes(field(batch, MAX_TIME_AT)),
            producer_id: i64::from_be_bytes(field(batch, PRODUCER_ID_AT)),
            producer_epoch: i16::from_be_bytes(field(batch, PRODUCER_EPOCH_AT)),
            base_sequence: i32::from_be_bytes(field(batch, BASE_SEQUENCE_AT)),
            count: i32::from_be_bytes(field(batch, COUNT_AT)),
        })
    }

    /// Write the header before the records that `batch` holds already, and the checksum of all of it.
    pub fn write(&self, batch: &mut [u8]) {
        let length = i32::try_from(batch.len() - BEFORE_LENGTH_BYTES).expect("a batch below 2 GiB");
        let mut put = |at: usize, bytes: &[u8]| batch[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(LEADER_EPOCH_AT, &NO_LEADER_EPOCH.to_be_bytes());
        put(MAGIC_AT, &[MAGIC]);
        put(ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(LAST_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put(FIRST_TIME_AT, &self.first_time.to_be_bytes());
        put(MAX_TIME_AT, &self.max_time.to_be_bytes());
        put(PRODUCER_ID_AT, &self.producer_id.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &self.producer_epoch.to_be_bytes());
        put(BASE_SEQUENCE_AT, &self.base_sequence.to_be_bytes());
        put(COUNT_AT, &self.count.to_be_bytes());
        let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
        batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Append a zigzag varint.
pub fn put_varint(buffer: &mut Vec<u8>, value: i64) {
    let mut rest = zigzag(value);
    while rest >= 0x80 {
        buffer.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    buffer.push(rest as u8);
}

/// Append bytes behind their length, or the length of what is null.
pub fn put_bytes(buffer: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => {
            put_varint(buffer, bytes.len() as i64);
            buffer.extend_from_slice(bytes);
        }
        None => put_varint(buffer, -1),
    }
}

pub fn varint_size(value: i64) -> usize {
    (64 - (zigzag(value) | 1).leading_zeros() as usize).div_ceil(7)
}

pub fn bytes_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_size(bytes.len() as i64) + bytes.len())
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// A part of a buffer, or null.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    at: u32,
    /// `NULL` for what is null.
    len: u32,
}

const NULL: u32 = u32::MAX;

impl Span {
    pub fn of<'a>(&self, buffer: &'a [u8]) -> Option<&'a [u8]> {
        (self.len != NULL).then(|| &buffer[self.at as usize..(self.at + self.len) as usize])
    }
}

/// One record of a batch, as places in the buffer that it was read from.
#[derive(Clone, Copy, Debug)]
pub struct Parsed {
    pub offset: i64,
    pub time: i64,
    pub key: Span,
    pub value: Span,
    /// The headers' count and the headers, all of which were checked.
    pub headers: Span,
}

/// Reads a buffer's fields one after another.
pub struct Reader<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Begin at a place; buffers of 4 GiB and more have no spans.
    pub fn new(buffer: &'a [u8], at: usize) -> Result<Self, Corrupt> {
        match u32::try_from(buffer.len()) {
            Ok(NULL) | Err(_) => Err(format!("expected less than 4 GiB, came {} bytes", buffer.len())),
            Ok(_) => Ok(Self { buffer, at }),
        }
    }

    fn varint(&mut self) -> Result<i64, Corrupt> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.buffer.get(self.at).ok_or_else(|| format!("the batch ends at byte {}", self.at))?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(format!("the number before byte {} has more than 64 bits", self.at))
    }

    fn span(&mut self) -> Result<Span, Corrupt> {
        let length = self.varint()?;
        if length < 0 {
            return Ok(Span { at: 0, len: NULL });
        }
        let at = self.at;
        match usize::try_from(length).ok().and_then(|length| at.checked_add(length)) {
            Some(end) if end <= self.buffer.len() => {
                self.at = end;
                Ok(Span { at: at as u32, len: length as u32 })
            }
            _ => Err(format!("expected {length} bytes from byte {at} on, where {} are left", self.buffer.len() - at)),
        }
    }

    fn headers(&mut self) -> Result<Span, Corrupt> {
        let begin = self.at;
        let count = self.varint()?;
        if count < 0 {
            return Err(format!("expected a number of headers, came {count}"));
        }
        for _ in 0..count {
            let key = self.span()?.of(self.buffer).ok_or("expected the name of a header, came null")?;
            std::str::from_utf8(key).map_err(|error| format!("the name of a header is no text: {error}"))?;
            self.span()?;
        }
        Ok(Span { at: begin as u32, len: (self.at - begin) as u32 })
    }

    /// Read the next record of a batch.
    pub fn record(&mut self, header: &Header) -> Result<Parsed, Corrupt> {
        let length = self.varint()?;
        let begin = self.at;
        self.varint()?;
        let time_delta = self.varint()?;
        let offset_delta = self.varint()?;
        let parsed = Parsed {
            offset: header.base_offset.wrapping_add(offset_delta),
            time: if header.attributes & LOG_APPEND_TIME == 0 {
                header.first_time.wrapping_add(time_delta)
            } else {
                header.max_time
            },
            key: self.span()?,
            value: self.span()?,
            headers: self.headers()?,
        };
        if (self.at - begin) as i64 != length {
            return Err(format!("expected a record of {length} bytes, read {}", self.at - begin));
        }
        Ok(parsed)
    }

    /// Check that nothing is left.
    pub fn end(&self) -> Result<(), Corrupt> {
        match self.buffer.len() - self.at {
            0 => Ok(()),
            left => Err(format!("{left} bytes are left behind the last record")),
        }
    }
}

/// Every record of a batch, whose records begin at `at` of `buffer`.
pub fn records(header: &Header, buffer: &[u8], at: usize) -> Result<Vec<Parsed>, Corrupt> {
    let mut reader = Reader::new(buffer, at)?;
    // A record has seven bytes at least, whatever the header says of their number.
    let mut found = Vec::with_capacity((header.count.max(0) as usize).min((buffer.len() - at) / 7 + 1));
    for _ in 0..header.count {
        found.push(reader.record(header)?);
    }
    reader.end()?;
    Ok(found)
}

/// Names and values of headers that `Reader` has checked.
pub fn headers(checked: &[u8]) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
    let mut reader = Reader { buffer: checked, at: 0 };
    let count = reader.varint().unwrap_or(0);
    (0..count).map_while(move |_| {
        let name = reader.span().ok()?.of(checked)?;
        let value = reader.span().ok()?.of(checked);
        Some((std::str::from_utf8(name).ok()?, value))
    })
}

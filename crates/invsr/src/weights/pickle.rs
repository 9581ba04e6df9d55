//! Reads the pickle inside a PyTorch checkpoint as data.
//!
//! A pickle is a program; this runs the few instructions that describe tensors and refuses the rest.
//! It calls nothing: of all the names that a pickle may ask for, those in `names.rs` are known,
//! and each stands for a shape of data. Values refer to each other by number, and what is copied is short, so
//! that neither deep nesting nor repeated doubling costs much more than the file is long.

use std::collections::HashMap;

use candle_core::DType;

use super::checkpoint::CheckpointError;
use super::names::Global;

type Result<T> = std::result::Result<T, CheckpointError>;

/// The longest pickle accepted; the release's has 0.03 MB, one with an optimiser's state about 1 MB.
pub(super) const MAX_BYTES: u64 = 8 << 20;

/// No tensor of a network has more.
const MAX_SIDES: usize = 8;
/// Of the name of a storage: PyTorch counts them.
const MAX_KEY_BYTES: usize = 64;
/// Of the name of a tensor.
const MAX_NAME_BYTES: usize = 1000;
/// In a checkpoint: the largest network here has 686.
const MAX_TENSORS: usize = 100_000;

/// Where a tensor lies inside the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StoredTensor {
    pub storage: Storage,
    /// Counted in elements, like the strides.
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

/// A run of numbers that one or more tensors share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage {
    pub dtype: DType,
    /// The archive's member that holds it.
    pub key: String,
}

/// The tensors of a checkpoint's dictionary, by name: of the one under `state_dict` if there is
/// such a key, else of the outermost. Entries of other kinds are left out.
pub(super) fn read(pickle: &[u8]) -> Result<Vec<(String, StoredTensor)>> {
    let mut machine = Machine {
        rest: pickle,
        ..Machine::default()
    };
    while machine.step()? {}
    let root = machine.pop()?;
    let entries = machine
        .dictionary(root)
        .ok_or_else(|| damaged("its outermost value is no dictionary"))?;
    let nested = entries.iter().find_map(|(key, value)| {
        (machine.text(*key) == Some("state_dict")).then(|| machine.dictionary(*value))?
    });
    let tensors = nested.unwrap_or(entries).iter().filter_map(|(key, value)| {
        let Value::Tensor(tensor) = &machine.values[*value] else {
            return None;
        };
        let name = machine.text(*key)?;
        (name.len() <= MAX_NAME_BYTES).then(|| (name.to_owned(), (**tensor).clone()))
    });
    let tensors: Vec<_> = tensors.take(MAX_TENSORS + 1).collect();
    if tensors.len() > MAX_TENSORS {
        return Err(damaged(format!("it has more than {MAX_TENSORS} tensors")));
    }
    Ok(tensors)
}

/// A value's number.
type Id = usize;

#[derive(Debug, Clone)]
enum Value {
    /// Nothing, a boolean or a fraction: nothing here depends on it.
    Plain,
    Int(i64),
    Text(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage>),
    Tensor(Box<StoredTensor>),
}

/// The pickle machine: a stack, marks in it, and a memory, all of them holding numbers of values.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memory: HashMap<u32, Id>,
}

impl Machine<'_> {
    /// Carries out one instruction; `false` after the last.
    fn step(&mut self) -> Result<bool> {
        let [instruction] = self.bytes()?;
        match instruction {
            b'.' => return Ok(false),
            0x80 => drop(self.bytes::<1>()?), // the protocol's number
            0x95 => drop(self.bytes::<8>()?), // a frame's length
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'N' | 0x88 | 0x89 => self.push(Value::Plain),
            b'G' => {
                self.bytes::<8>()?;
                self.push(Value::Plain);
            }
            b'K' | b'M' | b'J' | 0x8a => self.integer(instruction)?,
            b'X' | 0x8c => self.string(instruction)?,
            b')' | 0x85..=0x87 | b't' => self.tuple(instruction)?,
            b']' => self.push(Value::List(Vec::new())),
            b'}' => self.push(Value::Dictionary(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.extend_list(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dictionary(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dictionary(&items)?;
            }
            b'q' | b'r' | 0x94 | b'h' | b'j' => self.remember_or_recall(instruction)?,
            b'c' | 0x93 => self.global(instruction)?,
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            b'b' => self.pop().map(drop)?, // attributes of a dictionary, which hold no weights
            other => return Err(damaged(format!("instruction {other:#04x} is unknown"))),
        }
        Ok(true)
    }

    fn integer(&mut self, instruction: u8) -> Result<()> {
        let value = match instruction {
            b'K' => i64::from(u8::from_le_bytes(self.bytes()?)),
            b'M' => i64::from(u16::from_le_bytes(self.bytes()?)),
            b'J' => i64::from(i32::from_le_bytes(self.bytes()?)),
            _ => {
                let [length] = self.bytes()?;
                let digits = self.take(usize::from(length))?;
                let mut wide = [0; 8];
                let kept = wide
                    .get_mut(..digits.len())
                    .ok_or_else(|| damaged("an integer of more than 64 bits"))?;
                kept.copy_from_slice(digits);
                let unused = 64 - 8 * u32::from(length);
                // Shifted up and down again, so that the sign fills the bytes that were not there.
                i64::from_le_bytes(wide)
                    .checked_shl(unused)
                    .map_or(0, |shifted| shifted >> unused)
            }
        };
        self.push(Value::Int(value));
        Ok(())
    }

    fn string(&mut self, instruction: u8) -> Result<()> {
        let length = if instruction == b'X' {
            u32::from_le_bytes(self.bytes()?) as usize
        } else {
            usize::from(u8::from_le_bytes(self.bytes()?))
        };
        let text = std::str::from_utf8(self.take(length)?)
            .map_err(|_| damaged("a text is not UTF-8"))?
            .to_owned();
        self.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, instruction: u8) -> Result<()> {
        let items = match instruction {
            b't' => self.pop_to_mark()?,
            b')' => Vec::new(),
            _ => {
                let count = usize::from(instruction - 0x84);
                let mut items = Vec::with_capacity(count);
                for _ in 0..count {
                    items.push(self.pop()?);
                }
                items.reverse();
                items
            }
        };
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn remember_or_recall(&mut self, instruction: u8) -> Result<()> {
        let slot = match instruction {
            b'q' | b'h' => u32::from(u8::from_le_bytes(self.bytes()?)),
            b'r' | b'j' => u32::from_le_bytes(self.bytes()?),
            _ => u32::try_from(self.memory.len()).map_err(|_| damaged("its memory overflows"))?,
        };
        if matches!(instruction, b'h' | b'j') {
            let id = self.memory.get(&slot).copied();
            let id = id.ok_or_else(|| damaged("it recalls what it never stored"))?;
            self.stack.push(id);
        } else {
            let top = self.top()?;
            self.memory.insert(slot, top);
        }
        Ok(())
    }

    fn global(&mut self, instruction: u8) -> Result<()> {
        let global = if instruction == b'c' {
            let (module, name) = (self.line()?, self.line()?);
            Global::named(&module, &name)?
        } else {
            let (name, module) = (self.pop()?, self.pop()?);
            match (self.text(module), self.text(name)) {
                (Some(module), Some(name)) => Global::named(module, name)?,
                _ => return Err(damaged("a name is no text")),
            }
        };
        self.push(Value::Global(global));
        Ok(())
    }

    /// `("storage", kind, key, place, elements)`, on the stack, stands for a member of the archive.
    fn storage(&mut self) -> Result<()> {
        let id = self.pop()?;
        let storage = match self.items(id) {
            [tag, kind, key, ..] if self.text(*tag) == Some("storage") => {
                match (&self.values[*kind], self.text(*key)) {
                    (Value::Global(Global::Storage(dtype)), Some(key))
                        if key.len() <= MAX_KEY_BYTES =>
                    {
                        Some(Storage {
                            dtype: *dtype,
                            key: key.to_owned(),
                        })
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        let storage = storage.ok_or_else(|| damaged("a tensor's storage is not described"))?;
        self.push(Value::Storage(Box::new(storage)));
        Ok(())
    }

    /// What a call of a known name would make.
    fn call(&mut self) -> Result<()> {
        let (arguments, callee) = (self.pop()?, self.pop()?);
        let Value::Global(global) = self.values[callee] else {
            return Err(damaged("it calls what is no name"));
        };
        let made = match (global, self.items(arguments)) {
            (Global::OrderedDict, []) => Value::Dictionary(Vec::new()),
            (Global::RebuildParameter, [tensor, ..])
                if matches!(self.values[*tensor], Value::Tensor(_)) =>
            {
                self.values[*tensor].clone()
            }
            (Global::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let tensor = self.tensor([*storage, *offset, *shape, *strides]);
                let tensor = tensor.ok_or_else(|| damaged("a tensor is not described"))?;
                Value::Tensor(Box::new(tensor))
            }
            _ => return Err(damaged(format!("it calls {global:?} in an unknown way"))),
        };
        self.push(made);
        Ok(())
    }

    fn tensor(&self, [storage, offset, shape, strides]: [Id; 4]) -> Option<StoredTensor> {
        let Value::Storage(storage) = &self.values[storage] else {
            return None;
        };
        let number = |id: &Id| match self.values[*id] {
            Value::Int(value) => usize::try_from(value).ok(),
            _ => None,
        };
        let numbers = |id: Id| -> Option<Vec<usize>> {
            let sides = self.items(id);
            let sides = (sides.len() <= MAX_SIDES).then_some(sides)?;
            sides.iter().map(number).collect()
        };
        Some(StoredTensor {
            storage: (**storage).clone(),
            offset: number(&offset)?,
            shape: numbers(shape)?,
            strides: numbers(strides)?,
        })
    }

    fn extend_list(&mut self, items: Vec<Id>) -> Result<()> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(list) => list.extend(items),
            _ => return Err(damaged("it appends to what is no list")),
        }
        Ok(())
    }

    fn extend_dictionary(&mut self, items: &[Id]) -> Result<()> {
        let dictionary = self.top()?;
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(damaged("a dictionary's key has no value"));
        };
        match &mut self.values[dictionary] {
            Value::Dictionary(entries) => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)))
            }
            _ => return Err(damaged("it sets an entry of what is no dictionary")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    fn top(&self) -> Result<Id> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(id) if self.stack.len() > floor => Ok(*id),
            _ => Err(damaged("its stack is empty")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| damaged("its stack has no mark"))?;
        Ok(self.stack.split_off(mark))
    }

    fn text(&self, id: Id) -> Option<&str> {
        match &self.values[id] {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A tuple's items; nothing for another value.
    fn items(&self, id: Id) -> &[Id] {
        match &self.values[id] {
            Value::Tuple(items) => items,
            _ => &[],
        }
    }

    fn dictionary(&self, id: Id) -> Option<&[(Id, Id)]> {
        match &self.values[id] {
            Value::Dictionary(entries) => Some(entries),
            _ => None,
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let split = self.rest.split_at_checked(count);
        let (taken, rest) = split.ok_or_else(|| damaged("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        let split = self.rest.split_first_chunk();
        let (taken, rest) = split.ok_or_else(|| damaged("it is cut short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn line(&mut self) -> Result<String> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| damaged("it is cut short"))?;
        let line = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.bytes::<1>()?;
        Ok(line)
    }
}

fn damaged(what: impl Into<String>) -> CheckpointError {
    CheckpointError::Damaged(what.into())
}

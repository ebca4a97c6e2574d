//! The owner of all buffers of a net.

use super::{Buffer, Element, Residence, Shape};
use std::mem::take;

/// Name of a buffer inside its [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BufferId(usize);

impl BufferId {
    /// Its number: 0 for the first that was added, and so on.
    pub fn index(self) -> usize {
        self.0
    }
}

/// A named array with its gradient: a shape and two buffers. Blobs with equal ids share memory
/// (in-place tops, `Split`, `Reshape`, `Flatten`), which is settled when the net is built.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Name in the prototxt.
    pub name: String,
    /// Extents.
    pub shape: Shape,
    /// Values.
    pub data: BufferId,
    /// Gradient of the loss with respect to the values.
    pub diff: BufferId,
}

/// Owns all buffers of a net and lends them out.
///
/// To run a layer, what it writes is moved out ([`Store::lend`]), what it reads is borrowed. So writes never
/// alias and reads may, without a lock.
///
/// Buffers that are never needed at the same time may take turns in one piece of memory ([`Store::share`]). The store
/// knows whose turn it is: a buffer whose values were overwritten reads as empty, never as another's.
#[derive(Default)]
pub struct Store<T> {
    buffers: Vec<Slot>,
    places: Vec<Place<T>>,
    /// What a buffer reads as whose values are gone.
    empty: Buffer<T>,
}

/// A buffer: how long it is, and where it lies.
struct Slot {
    len: usize,
    place: usize,
    /// Whether the place is its own.
    kept: bool,
}

/// A piece of memory.
#[derive(Default)]
struct Place<T> {
    memory: Buffer<T>,
    /// The buffer whose values are there.
    holder: Option<usize>,
}

impl<T: Element> Store<T> {
    /// A new buffer of `len` values, in a place of its own.
    pub fn add(&mut self, len: usize) -> BufferId {
        let id = self.buffers.len();
        self.buffers.push(Slot { len, place: self.places.len(), kept: true });
        self.places.push(Place { memory: Buffer::new(len), holder: Some(id) });
        BufferId(id)
    }

    /// How many buffers there are.
    pub fn len(&self) -> usize {
        self.buffers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Number of values of each buffer.
    pub fn lengths(&self) -> Vec<usize> {
        self.buffers.iter().map(|s| s.len).collect()
    }

    /// Lets buffers share memory: those of the same group number take turns in a place as large as the largest of
    /// them; the others (`None`) have one of their own, with the values that they had if it was their own before.
    /// `groups` goes by [`BufferId::index`].
    pub fn share(&mut self, groups: &[Option<usize>]) {
        let mut old = take(&mut self.places);
        let count = groups.iter().flatten().max().map_or(0, |g| g + 1);
        let mut room = vec![0; count];
        for (slot, group) in self.buffers.iter().zip(groups) {
            if let Some(room) = group.and_then(|g| room.get_mut(g)) {
                *room = slot.len.max(*room);
            }
        }
        self.places = room
            .into_iter()
            .map(|room| {
                let mut memory = Buffer::new(room);
                memory.allocate();
                Place { memory, holder: None }
            })
            .collect();
        for (id, slot) in self.buffers.iter_mut().enumerate() {
            if let Some(group) = groups.get(id).copied().flatten() {
                (slot.place, slot.kept) = (group, false);
                continue;
            }
            let own = old.get_mut(slot.place).filter(|_| slot.kept).map(take);
            let place = own.unwrap_or_else(|| Place { memory: Buffer::new(slot.len), holder: Some(id) });
            (slot.place, slot.kept) = (self.places.len(), true);
            self.places.push(place);
        }
    }

    /// Whether a buffer has memory of its own, so that its values stay until they are written again.
    pub fn keeps(&self, id: BufferId) -> bool {
        self.buffers[id.0].kept
    }

    /// Whether the values of a buffer are there: always where it has memory of its own, else from when it is written
    /// to when another takes its turn.
    pub fn holds(&self, id: BufferId) -> bool {
        self.places[self.buffers[id.0].place].holder == Some(id.0)
    }

    /// Moves a buffer out; until it is given back the store holds an empty one in its place. Where it shares its
    /// memory, it is now its turn.
    pub fn lend(&mut self, id: BufferId) -> Buffer<T> {
        take(self.get_mut(id))
    }

    /// Puts a lent buffer back.
    pub fn give_back(&mut self, id: BufferId, buffer: Buffer<T>) {
        self.places[self.buffers[id.0].place].memory = buffer;
    }

    /// A buffer for reading; an empty one where its values are gone.
    pub fn get(&self, id: BufferId) -> &Buffer<T> {
        let place = &self.places[self.buffers[id.0].place];
        if place.holder == Some(id.0) { &place.memory } else { &self.empty }
    }

    /// A buffer for writing. Where it shares its memory, it is now its turn, and its values mean nothing yet.
    pub fn get_mut(&mut self, id: BufferId) -> &mut Buffer<T> {
        let slot = &self.buffers[id.0];
        let place = &mut self.places[slot.place];
        if place.holder != Some(id.0) {
            place.holder = Some(id.0);
            place.memory.reuse(slot.len);
        }
        &mut place.memory
    }

    /// Changes the length of a buffer. What shares memory is to be shared again ([`Store::share`]) afterwards.
    pub fn resize(&mut self, id: BufferId, len: usize) {
        let slot = &mut self.buffers[id.0];
        slot.len = len;
        if slot.kept {
            self.places[slot.place].memory.resize(len);
        }
    }

    /// Gives all device memory back ([`Buffer::leave_device`]).
    pub fn leave_device(&mut self) {
        self.places.iter_mut().for_each(|p| p.memory.leave_device());
    }

    /// Where all its memory is on a device, and what of it has its value on the host alone: what a graph relies on. Appended to `to`.
    pub fn layout(&self, to: &mut Vec<(u64, bool)>) {
        let places = self.places.iter().map(|p| &p.memory);
        to.extend(places.map(|m| (m.device_address(), m.residence() == Residence::Host)));
    }

    /// Whose turn it is in each place, and whether the device alone has its values. Appended to `to`.
    pub fn state(&self, to: &mut Vec<(Option<usize>, bool)>) {
        to.extend(self.places.iter().map(|p| (p.holder, p.memory.residence() == Residence::Device)));
    }

    /// Brings about a state in which this store once was ([`Store::state`]), now that the device has done again what led to it.
    pub fn set_state(&mut self, state: &[(Option<usize>, bool)]) {
        for (place, &(holder, written)) in self.places.iter_mut().zip(state) {
            place.holder = holder;
            if let (Some(slot), true) = (holder.and_then(|h| self.buffers.get(h)), written) {
                place.memory.written_on_device(slot.len);
            }
        }
    }

    /// Bytes of host memory that its buffers hold.
    pub fn bytes(&self) -> usize {
        self.places.iter().map(|p| p.memory.bytes()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_take_turns() {
        let mut store = Store::<f32>::default();
        let [a, b, c] = [3, 5, 2].map(|len| store.add(len));
        store.get_mut(c).host_mut().fill(7.0);
        store.share(&[Some(0), Some(0), None]);
        assert!(!store.holds(a) && !store.holds(b) && store.holds(c));
        store.get_mut(a).host_mut().fill(1.0);
        assert_eq!((store.get(a).host(), store.get(b).host()), ([1.0; 3].as_slice(), [].as_slice()));
        let mut lent = store.lend(b);
        assert_eq!((lent.len(), store.get(b).len()), (5, 0));
        lent.host_mut().fill(2.0);
        store.give_back(b, lent);
        assert_eq!((store.get(b).host(), store.get(a).host()), ([2.0; 5].as_slice(), [].as_slice()));
        assert_eq!((store.get(c).host(), store.keeps(c), store.keeps(b)), ([7.0; 2].as_slice(), true, false));
    }

    #[test]
    fn sharing_is_settled_again_after_a_new_length() {
        let mut store = Store::<f64>::default();
        let [a, b, c] = [3, 5, 2].map(|len| store.add(len));
        store.get_mut(c).host_mut().fill(7.0);
        store.share(&[Some(0), Some(0), None]);
        store.resize(a, 9);
        store.resize(c, 3);
        store.share(&[Some(0), Some(0), None]);
        assert_eq!(store.get_mut(a).host_mut().len(), 9);
        assert_eq!(store.get(c).host(), [7.0, 7.0, 0.0]);
        store.share(&[None; 3]);
        assert!([a, b, c].into_iter().all(|id| store.keeps(id) && store.holds(id)));
        assert_eq!((store.get(a).len(), store.get(b).len()), (9, 5));
    }
}

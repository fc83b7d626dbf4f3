//! How a table is looked at: order, filter, and what is selected.

use super::{
    listing::{self, Item},
    place::Place,
};
use crate::model::Column;

/// A filter is not longer than this, in characters.
const LONGEST_FILTER: usize = 64;

/// Of one table.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The place it was last shown in: in another, filter and selection are not the same.
    place: Place,
    /// Column; none = the usual one.
    pub sort: Option<&'static str>,
    /// The other way round.
    pub reverse: bool,
    /// Only what has this in it.
    pub filter: String,
    /// What is selected, and the columns of its cells.
    selected: Option<(Item, &'static [Column])>,
    /// Where it was.
    index: usize,
    /// The first line that was on the screen.
    pub offset: usize,
}

/// A table in order.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// Its columns.
    pub columns: &'static [Column],
    /// Its lines.
    pub items: Vec<Item>,
    /// How many there were before the filter.
    pub all: usize,
    /// Which is selected; 0 where there are none.
    pub selected: usize,
    /// By which column it is sorted.
    pub sort: Option<&'static str>,
}

impl Listing {
    /// What is selected.
    #[must_use]
    pub fn selected(&self) -> Option<&Item> {
        self.items.get(self.selected)
    }
}

impl Settings {
    /// The table is shown in a place now.
    pub fn enter(&mut self, place: &Place) {
        if self.place != *place {
            *self = Self { place: place.clone(), sort: self.sort, reverse: self.reverse, ..Self::default() };
        }
    }

    /// Filters and sorts. What is selected stays so wherever it is now; if it is nowhere it stays where it was, without
    /// numbers, until something else is selected or the filter hides it.
    pub fn arrange(&mut self, columns: &'static [Column], mut items: Vec<Item>) -> Listing {
        let all = items.len();
        let filter = self.filter.to_lowercase();
        items.retain(|item| filter.is_empty() || item.pinned || item.matches(&filter));
        let shown = |id: &str| columns.iter().any(|column| column.id == id && column.importance.is_some());
        let sort = self.sort.filter(|id| shown(id)).or_else(|| listing::usual_sort(columns));
        if let Some(sort) = sort {
            listing::sort(&mut items, columns, sort, self.reverse);
        }
        if let Some((old, before)) = &self.selected {
            if let Some(index) = items.iter().position(|item| item.key == old.key) {
                self.index = index;
            } else if filter.is_empty() || old.matches(&filter) {
                self.index = self.index.min(items.len());
                // Under no columns nothing could be seen of it.
                if !columns.is_empty() {
                    items.insert(self.index, old.ghost(before, columns));
                }
            }
        }
        self.index = self.index.min(items.len().saturating_sub(1));
        if let Some(item) = items.get(self.index) {
            self.selected = Some((item.clone(), columns));
        }
        Listing { columns, all, selected: self.index, sort, items }
    }

    /// Selects the line at `index`, or the last one.
    pub fn select(&mut self, listing: &mut Listing, index: usize) {
        let old = listing.selected;
        let mut index = index.min(listing.items.len().saturating_sub(1));
        // What is gone goes from the screen with the selection.
        if index != old && listing.items.get(old).is_some_and(|item| item.gone) {
            listing.items.remove(old);
            index -= usize::from(index > old);
        }
        self.index = index;
        listing.selected = index;
        self.selected = listing.items.get(index).map(|item| (item.clone(), listing.columns));
    }

    /// Sorts by the next column, or the one before.
    pub fn next_sort(&mut self, listing: &Listing, back: bool) {
        let ids: Vec<_> = listing
            .columns
            .iter()
            .filter(|column| column.importance.is_some())
            .map(|column| column.id)
            .collect();
        if ids.is_empty() {
            return;
        }
        let now = listing.sort.and_then(|sort| ids.iter().position(|id| *id == sort)).unwrap_or(0);
        let next = if back { now + ids.len() - 1 } else { now + 1 };
        self.sort = Some(ids[next % ids.len()]);
    }

    /// A character more in the filter.
    pub fn type_filter(&mut self, c: char) {
        if self.filter.chars().count() < LONGEST_FILTER {
            self.filter.push(c);
        }
    }
}

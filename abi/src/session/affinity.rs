//! Where threads run: a rectangle of CPUs inside a grid.

use crate::wire_record;

wire_record! {
    /// The location `x`, `y`, `width`, `height` in a grid of `space_width` times `space_height`. A default one says
    /// nothing: the whole grid of the parent.
    pub struct Affinity {
        /// Columns of the grid.
        pub space_width: u16,
        /// Rows of the grid.
        pub space_height: u16,
        /// First column.
        pub x: u16,
        /// First row.
        pub y: u16,
        /// Columns.
        pub width: u16,
        /// Rows.
        pub height: u16,
    }
}

impl Affinity {
    /// Whether it says where: a grid, and a location inside it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let inside =
            |start: u16, size: u16, limit: u16| size > 0 && u32::from(start) + u32::from(size) <= u32::from(limit);
        inside(self.x, self.width, self.space_width) && inside(self.y, self.height, self.space_height)
    }
}

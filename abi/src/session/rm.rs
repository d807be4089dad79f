//! RM: makes region maps, which are dataspaces that the client composes of others.

use super::region_map::RegionMap;
use super::wire::Cap;
use crate::{rpc, wire_enum};

rpc! {
    /// The maker of region maps.
    pub interface Rm {
        const NAME = "RM";
        const CAP_QUOTA = 3;
        const RAM_QUOTA = 16 * 1024;
        /// Makes an empty region map of `size` bytes.
        fn create(size: u64) -> Cap<RegionMap> | CreateError;
        /// Destroys a region map of this session. It disappears wherever it is attached.
        fn destroy(map: Cap<RegionMap>);
    }
}

wire_enum! {
    /// Why no region map was made.
    pub enum CreateError {
        /// The session has not enough RAM: upgrade it.
        OutOfRam = 1,
        /// The session has not enough capabilities: upgrade it.
        OutOfCaps = 2,
        /// The size is 0 or more than an address space.
        BadSize = 3,
    }
}

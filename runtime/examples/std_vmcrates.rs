//! A component with `std` and an environment, which loads a kernel with `linux-loader` into memory of `vm-memory`.
#![cfg_attr(kilonova, no_main)]
#![forbid(unsafe_code)]

use std::error::Error;
use std::io::Cursor;

use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::bzimage::BzImage;
use linux_loader::loader::{KernelLoader, KernelLoaderResult};
use runtime::Env;
use vm_memory::{
    ByteValued, Bytes, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestRegionCollection, GuestUsize, MemoryRegionAddress, VolatileSlice,
};

runtime_libc::component!(construct);

const MEMORY: usize = 2 << 20;
const KERNEL: &[u8] = b"the protected-mode code";

fn construct(env: &'static Env) -> Result<(), Box<dyn Error>> {
    let memory = GuestRegionCollection::from_regions(vec![Region::new(MEMORY)])?;
    let loaded = load(&memory)?;
    println!("kernel at {:#x}, ends at {:#x}", loaded.kernel_load.0, loaded.kernel_end);
    let mut code = [0; KERNEL.len()];
    memory.read_slice(&mut code, loaded.kernel_load)?;
    println!("loaded: {}", code == KERNEL);
    println!("written beyond the end: {}", memory.write_obj(0_u64, GuestAddress(MEMORY as u64 - 4)).is_ok());
    println!("shared memory of the environment: {}", env.alloc_ram(1)?.memory().size());
    env.exit(0);
    Ok(())
}

/// Loads an image that is nothing but a setup header and a few bytes of code.
fn load(memory: &GuestRegionCollection<Region>) -> Result<KernelLoaderResult, Box<dyn Error>> {
    // Linux boot protocol 2.15: where the header is, its signature "HdrS", and where the code wants to be.
    const HEADER: usize = 0x1f1;
    const SECTOR: usize = 512;
    let header = setup_header {
        setup_sects: 1,
        header: u32::from_le_bytes(*b"HdrS"),
        version: 0x020f,
        loadflags: 1,
        code32_start: 1 << 20,
        ..Default::default()
    };
    let mut image = vec![0; HEADER];
    image.extend_from_slice(header.as_slice());
    image.resize(2 * SECTOR, 0);
    image.extend_from_slice(KERNEL);
    Ok(BzImage::load(memory, None, &mut Cursor::new(image), None)?)
}

/// Guest memory from the heap.
struct Region(VolatileSlice<'static>);

impl Region {
    fn new(size: usize) -> Self {
        Self(vec![0_u8; size].leak().into())
    }
}

impl GuestMemoryRegion for Region {
    type B = ();

    fn len(&self) -> GuestUsize {
        self.0.len() as GuestUsize
    }

    fn start_addr(&self) -> GuestAddress {
        GuestAddress(0)
    }

    fn bitmap(&self) {}

    fn get_slice(&self, offset: MemoryRegionAddress, count: usize) -> Result<VolatileSlice<'_>, GuestMemoryError> {
        Ok(self.0.subslice(offset.0 as usize, count)?)
    }
}

impl GuestMemoryRegionBytes for Region {}

//! Passes the linker script to the build that runs on a bare machine; the host's linker knows nothing of it.

fn main() {
    println!("cargo:rerun-if-changed=probe.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        println!("cargo:rustc-link-arg-bins=-T{dir}/probe.ld");
        println!("cargo:rustc-link-arg-bins=--no-pie");
        // The file is what a boot loader expects of a Linux kernel, not ELF.
        println!("cargo:rustc-link-arg-bins=--oformat=binary");
    }
}

/* Boot header and entries. A boot loader jumps to the real-mode part, a VMM to one of the entries of the other part. */

    .section .setup, "ax"
    .code16
setup:
    .org 0x1f1
    .byte 1                     # setup_sects: one behind this one
    .word 0                     # root_flags
    .long PARAGRAPHS            # syssize
    .word 0, 0, 0               # ram_size, vid_mode, root_dev
    .word 0xaa55                # boot_flag
    .byte 0xeb, header_end - header
header:
    .ascii "HdrS"
    .word 0x020c                # version: the first with xloadflags
    .long 0                     # realmode_swtch
    .word 0, 0                  # start_sys_seg, kernel_version
    .byte 0, 1                  # type_of_loader, loadflags: LOADED_HIGH
    .word 0                     # setup_move_size
    .long entry_32              # code32_start
    .long 0, 0, 0               # ramdisk_image, ramdisk_size, bootsect_kludge
    .word 0                     # heap_end_ptr
    .byte 0, 0                  # ext_loader_ver, ext_loader_type
    .long 0                     # cmd_line_ptr
    .long 0x7fffffff            # initrd_addr_max
    .long 0x200000              # kernel_alignment
    .byte 0, 21                 # relocatable_kernel, min_alignment
    .word 1                     # xloadflags: XLF_KERNEL_64
    .long 255                   # cmdline_size
    .long 0                     # hardware_subarch
    .quad 0                     # hardware_subarch_data
    .long 0, 0                  # payload_offset, payload_length
    .quad 0                     # setup_data
    .quad entry_32              # pref_address
    .long INIT_SIZE             # init_size
    .long 0                     # handover_offset
header_end:
    cli
    .byte 0x66                  # 32-bit base
    lgdt [GDT_POINTER]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    .byte 0x66, 0xea            # far jump
    .long entry_32
    .word 0x10
gdt_pointer:
    .word gdt_end - gdt - 1
    .long gdt
    .set GDT_POINTER, gdt_pointer - setup

    .section .entry, "ax"
    .code32
    .global entry_32
entry_32:
    mov eax, 0x18
    mov ds, eax
    mov es, eax
    mov ss, eax
    lgdt [gdt_pointer_64]
    # Page tables: PML4, PDPT, four page directories of 2 MiB pages that map 4 GiB one to one.
    mov edi, offset PAGE_TABLES
    lea eax, [edi + 0x1003]
    mov [edi], eax
    lea eax, [edi + 0x2003]
    mov ecx, 4
    lea ebx, [edi + 0x1000]
2:  mov [ebx], eax
    add eax, 0x1000
    add ebx, 8
    loop 2b
    mov eax, 0x83               # present, writable, large
    mov ecx, 4 * 512
    lea ebx, [edi + 0x2000]
3:  mov [ebx], eax
    add eax, 0x200000
    add ebx, 8
    loop 3b
    mov cr3, edi
    mov eax, cr4
    or eax, 1 << 5              # PAE
    mov cr4, eax
    mov ecx, 0xc0000080         # EFER: LME
    rdmsr
    or eax, 1 << 8
    wrmsr
    mov eax, cr0
    or eax, 0x80000000          # PG
    mov cr0, eax
    .byte 0xea                  # far jump
    .long entry_64
    .word 0x20

    .balign 8
gdt:
    .quad 0, 0
    .quad 0x00cf9b000000ffff    # 0x10: code, 32 bits
    .quad 0x00cf93000000ffff    # 0x18: data
    .quad 0x00af9b000000ffff    # 0x20: code, 64 bits
gdt_end:
gdt_pointer_64:
    .word gdt_end - gdt - 1
    .long gdt

    .org 0x200
    .code64
entry_64:
    cli
    cld
    rdtsc
    shl rdx, 32
    or rdx, rax
    mov r8, rdx
    # Memory is not empty after a reset.
    lea rdi, [rip + FILE_END]
    lea rcx, [rip + BSS_END]
    sub rcx, rdi
    xor eax, eax
    rep stosb
    lea rsp, [rip + STACK_TOP]
    mov rdi, r8
    call {main}
4:  hlt
    jmp 4b

    .bss
    .balign 16
    .skip 0x40000
STACK_TOP:

# Boot sector for a floppy disk: reads what it is told from a hard disk to where it is told, then starts Linux by its
# boot protocol for real mode. bochs.py fills in drive and parts.
	.set chunk, 80			# sectors: real mode reaches no more than 64 KiB at once
	.set buffer, 0x10000

	.code16
	.globl _start
_start:	cli
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $_start, %sp
	# Segments that keep a limit of 4 GiB in real mode.
	lgdt table
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	mov $8, %bx
	mov %bx, %ds
	mov %bx, %es
	and $0xfe, %al
	mov %eax, %cr0
	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	in $0x92, %al			# A20
	or $2, %al
	out %al, $0x92
	sti

	mov $parts, %bp
next:	mov %ds:(%bp), %cx		# chunks left of this part
	mov %ds:4(%bp), %edi		# where the next one goes
	jcxz start
1:	push %bp
	push %cx
	push %edi
	mov $packet, %si
	mov drive, %dl
	mov $0x42, %ah
	int $0x13
	pop %edi
	jc failed
	addl $chunk, packet + 8
	mov $buffer, %esi
	mov $chunk * 128, %ecx
	cld
	addr32 rep movsl
	pop %cx
	pop %bp
	loop 1b
	add $8, %bp
	jmp next

start:	cli
	mov $0x9000, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %fs
	mov %ax, %gs
	mov %ax, %ss
	mov $0x9800, %sp
	ljmp $0x9020, $0

failed:	hlt
	jmp failed

	.balign 4
packet:	.byte 16, 0
	.word chunk, 0, buffer >> 4
	.long 0, 0
table:	.word 15			# the first descriptor is not used and holds the table's own place
	.long table
	.word 0
	.quad 0x00cf92000000ffff

	.org 464
drive:	.byte 0
	.org 468
parts:	.fill 5, 8, 0			# chunks and address of each; a part of no chunks ends them
	.org 510
	.word 0xaa55

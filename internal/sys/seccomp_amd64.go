package sys

import "golang.org/x/sys/unix"

// forbiddenHere are forbidden calls that only this architecture has.
var forbiddenHere = []uint32{
	unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_KEXEC_FILE_LOAD, unix.SYS_MKNOD,
}

"""Which system calls an engine needs: the lists that `vmm_ffi.jail.seccomp` makes filters of."""

from __future__ import annotations

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


FILES: Final = _names(
    """
    access faccessat faccessat2 close close_range dup dup2 dup3 fadvise64 fallocate fchdir fcntl fdatasync flock fstat
    fstatfs fsync ftruncate getcwd getdents64 lseek lstat newfstatat open openat pread64 preadv preadv2 pwrite64 pwritev
    pwritev2 read readlink readlinkat readv stat statfs statx sync_file_range write writev
    """
)

MEMORY: Final = _names(
    """
    brk get_mempolicy madvise mbind membarrier memfd_create mincore mmap mprotect mremap msync munmap set_mempolicy
    """
)

WAITING: Final = _names(
    """
    clock_getres clock_gettime clock_nanosleep epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_wait eventfd
    eventfd2 futex getitimer gettimeofday nanosleep pipe pipe2 poll ppoll pselect6 restart_syscall select setitimer
    signalfd signalfd4 time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
    timerfd_gettime timerfd_settime times
    """
)

PROCESS: Final = _names(
    """
    arch_prctl execve exit exit_group get_robust_list getcpu getegid geteuid getgid getgroups getpgrp getpid getppid
    getrandom getresgid getresuid getrlimit getrusage gettid getuid prctl rseq rt_sigaction rt_sigpending rt_sigprocmask
    rt_sigreturn rt_sigsuspend rt_sigtimedwait sched_get_priority_max sched_get_priority_min sched_getaffinity
    sched_getparam sched_getscheduler sched_yield seccomp set_robust_list set_tid_address sigaltstack sysinfo tgkill
    umask uname
    """
)

SOCKETS: Final = _names(
    """
    connect getpeername getsockname getsockopt recvfrom recvmsg sendmsg sendto setsockopt shutdown
    """
)

SERVERS: Final = _names("accept accept4 bind listen recvmmsg sendmmsg")
"""What a machine needs besides that listens on a socket of its own (krun), or has a network."""

SAVING: Final = _names("chmod fchmod mkdir mkdirat rename renameat renameat2 rmdir unlink unlinkat")
"""What a machine needs besides that saves itself (krun), in a directory of its own."""

NEWER: Final = _names(
    """
    clone3 epoll_pwait2 futex_requeue futex_wait futex_waitv futex_wake io_uring_enter io_uring_register
    io_uring_setup landlock_create_ruleset map_shadow_stack mseal openat2 pidfd_open set_mempolicy_home_node statmount
    """
)
"""What libraries try first, and do without where a kernel does not have it: never the end of a machine."""

DENIED: Final = _names(
    """
    kill mlock mlock2 mlockall munlock munlockall sched_setaffinity sched_setattr sched_setparam sched_setscheduler
    setpriority setrlimit tkill
    """
)
"""What engines try and go on without: refused with EPERM, never the end of a machine."""

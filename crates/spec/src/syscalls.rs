//! The system calls that the default profile names, by what they do.

/// Calls that every container may make, a group a line of words.
pub(crate) const ALLOWED: &[&str] = &[
    FILES,
    MOUNTS,
    TIME,
    SIGNALS,
    SOCKETS,
    IPC,
    WAITING,
    MEMORY,
    IDENTITY,
    SCHEDULING,
    PROCESSES,
    SYSTEM,
    DESCRIPTORS,
];

/// Names in the file system.
const FILES: &str = "\
    access chdir chmod chown chown32 creat faccessat faccessat2 fchmodat fchmodat2 futimesat getcwd getxattr \
    lchown lchown32 lgetxattr link linkat listxattr llistxattr lremovexattr lsetxattr lstat lstat64 mkdir \
    mkdirat mknod mknodat name_to_handle_at newfstatat open openat openat2 removexattr rename renameat renameat2 \
    rmdir setxattr stat stat64 statfs statfs64 statx symlink symlinkat truncate truncate64 unlink unlinkat utime \
    utimensat utimensat_time64 utimes";

/// Mounts and namespaces; what they may do is decided by capabilities in a user namespace.
const MOUNTS: &str = "\
    fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree pivot_root setns umount umount2 \
    unshare";

/// Clocks and timers.
const TIME: &str = "\
    adjtimex alarm clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create \
    timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times";

/// Signals.
const SIGNALS: &str = "\
    kill pause pidfd_send_signal restart_syscall rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo \
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack signal \
    signalfd signalfd4 sigprocmask sigreturn tgkill tkill";

/// Sockets that exist already; making one is decided by its family.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketpair";

/// System V and POSIX communication.
const IPC: &str = "\
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt \
    shmget";

/// Waiting for events.
const WAITING: &str = "\
    _newselect epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait \
    epoll_wait_old eventfd eventfd2 fanotify_init fanotify_mark futex futex_requeue futex_time64 futex_wait \
    futex_waitv futex_wake get_robust_list inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
    io_cancel io_destroy io_getevents io_setup io_submit membarrier poll ppoll ppoll_time64 pselect6 \
    pselect6_time64 select set_robust_list";

/// Memory.
const MEMORY: &str = "\
    brk get_mempolicy madvise mbind memfd_create memfd_secret mincore mlock mlock2 mlockall mmap mmap2 mprotect \
    mremap msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages rseq \
    set_mempolicy";

/// Who a process is.
const IDENTITY: &str = "\
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid \
    getresgid32 getresuid getresuid32 getuid getuid32 keyctl landlock_add_rule landlock_create_ruleset \
    landlock_restrict_self prctl seccomp setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid \
    setuid32 umask";

/// Scheduling, priorities and limits.
const SCHEDULING: &str = "\
    getcpu getpriority getrlimit getrusage ioprio_get ioprio_set prlimit64 sched_get_priority_max \
    sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield setpriority setrlimit ugetrlimit";

/// Processes and threads.
const PROCESSES: &str = "\
    clone clone3 execve execveat exit exit_group fork get_thread_area getpgid getpgrp getpid getppid getsid \
    gettid pidfd_getfd pidfd_open process_mrelease process_vm_readv process_vm_writev ptrace set_thread_area \
    set_tid_address setpgid setsid vfork wait4 waitid waitpid";

/// The machine; harmful ones need capabilities.
const SYSTEM: &str = "\
    getrandom reboot sync sysinfo syslog uname";

/// Open files.
const DESCRIPTORS: &str = "\
    _llseek close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fchdir fchmod \
    fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fremovexattr fsetxattr fstat \
    fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 getdents getdents64 ioctl lseek pipe pipe2 \
    pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readlink readlinkat readv sendfile \
    sendfile64 splice sync_file_range syncfs tee write writev";

/// Calls that exist and are refused with EPERM, so that programs do not take the kernel for an older one.
pub(crate) const REFUSED: &str = "\
    bdflush cachestat io_pgetevents io_pgetevents_time64 kexec_file_load kexec_load map_shadow_stack \
    migrate_pages move_pages nfsservctl nice oldfstat oldlstat oldolduname oldstat olduname pciconfig_iobase \
    pciconfig_read pciconfig_write sgetmask ssetmask swapoff swapon syscall sysfs uselib userfaultfd ustat vm86 \
    vm86old vmsplice";

/// Calls allowed with any of these capabilities, and refused with EPERM without.
pub(crate) const WITH_CAPABILITY: &[(&[&str], &str)] = &[
    (&["CAP_DAC_READ_SEARCH"], "open_by_handle_at"),
    (&["CAP_SYS_ADMIN"], "lookup_dcookie quotactl quotactl_fd setdomainname sethostname"),
    (&["CAP_SYS_ADMIN", "CAP_BPF"], "bpf"),
    (&["CAP_SYS_ADMIN", "CAP_PERFMON"], "perf_event_open"),
    (&["CAP_SYS_CHROOT"], "chroot"),
    (&["CAP_SYS_MODULE"], "delete_module finit_module init_module query_module"),
    (&["CAP_SYS_PACCT"], "acct"),
    (&["CAP_SYS_PTRACE"], "kcmp process_madvise"),
    (&["CAP_SYS_RAWIO"], "ioperm iopl"),
    (&["CAP_SYS_TIME"], "clock_settime clock_settime64 settimeofday stime"),
    (&["CAP_SYS_TTY_CONFIG"], "vhangup"),
];

/// Calls that only some processors have, by Rust's name of the processor.
pub(crate) const OF_PROCESSOR: &[(&[&str], &str)] = &[
    (&["x86_64", "x86"], "arch_prctl modify_ldt"),
    (&["aarch64", "arm"], "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2"),
    (&["powerpc64"], "swapcontext sync_file_range2"),
    (&["s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Calls that change a file's owner.
pub(crate) const CHOWN: &str = "chown chown32 fchown fchown32 fchownat lchown lchown32";

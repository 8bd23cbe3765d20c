package hook

// The objects, and the types that they share with Go: "make bpf".
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror" -type control -type event -type found -type rule -type slot -type writer -type kind -type answer -type state sysctl sysctl.bpf.c
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror" -type start exec exec.bpf.c

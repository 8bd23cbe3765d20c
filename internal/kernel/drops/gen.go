package drops

// The object, and the types that it shares with Go: "make bpf".
//
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -cc clang-14 -strip llvm-strip-14 -target bpfel -cflags "-O2 -g -mcpu=v2 -Wall -Wextra -Werror" -type drop -type address drops drops.bpf.c

// Functions without a body, which go:linkname fills in, need an assembly file in their package.

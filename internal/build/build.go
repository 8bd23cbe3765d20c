// Package build says which build of nfguard this is.
package build

import "runtime/debug"

// version is set by the linker: -X github.com/nfguard/nfguard/internal/build.version=….
var version string

// namespace is "own" where tests build the program that they run in namespaces of their
// own: it is what `namespace` is without a configuration.
var namespace string

// Namespace returns the default of the key `namespace`.
func Namespace() string {
	if namespace != "" {
		return namespace
	}
	return "host"
}

// Version returns the release, or "devel" for a build without a version.
func Version() string {
	if version != "" {
		return version
	}
	return "devel"
}

// Revision returns the commit that the binary was built from, or "" if
// the go tool did not record one.
func Revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}

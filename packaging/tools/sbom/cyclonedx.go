package main

import (
	"bytes"
	"path"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

func cycloneDX(b bill) ([]byte, error) {
	expression := func(e string) *cdx.Licenses { return &cdx.Licenses{{Expression: e}} }
	sum := func(s string) *[]cdx.Hash { return &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: s}} }
	main := cdx.Component{
		BOMRef: "nfguard", Type: cdx.ComponentTypeApplication, Name: "nfguard", Version: b.version,
		PackageURL: "pkg:golang/github.com/nfguard/nfguard@v" + b.version,
		Licenses:   expression(b.licence), Hashes: sum(b.sum),
		Properties: &[]cdx.Property{{Name: "go:GOARCH", Value: b.arch}},
	}
	var components []cdx.Component
	var refs []string
	for _, m := range b.modules {
		c := cdx.Component{
			BOMRef: m.purl(), Type: cdx.ComponentTypeLibrary, Name: m.path, Version: m.version,
			PackageURL: m.purl(), Licenses: expression(m.licence),
		}
		if m.sum != "" {
			c.Properties = &[]cdx.Property{{Name: "go:sum", Value: m.sum}}
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	for _, o := range b.objects {
		c := cdx.Component{
			BOMRef: o.path, Type: cdx.ComponentTypeFile, Name: path.Base(o.path), Version: b.version,
			Description: "BPF program, carried in the binary", Licenses: expression(o.licence), Hashes: sum(o.sum),
		}
		components, refs = append(components, c), append(refs, c.BOMRef)
	}
	bom := cdx.NewBOM()
	bom.SpecVersion = cdx.SpecVersion1_6
	bom.SerialNumber = "urn:uuid:" + b.id()
	bom.Metadata = &cdx.Metadata{Timestamp: b.time.Format(time.RFC3339), Component: &main}
	bom.Components = &components
	// The binary knows what is linked into it, and not who asked for it.
	bom.Dependencies = &[]cdx.Dependency{{Ref: main.BOMRef, Dependencies: &refs}}
	var out bytes.Buffer
	err := cdx.NewBOMEncoder(&out, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6)
	return out.Bytes(), err
}

package main

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

const noAssertion = "NOASSERTION"

func spdxDocument(b bill) ([]byte, error) {
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT",
		DocumentName:      "nfguard-" + b.version + "-" + b.arch,
		DocumentNamespace: "https://github.com/nfguard/nfguard/sbom/" + b.id(),
		CreationInfo: &spdx.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Organization", Creator: "nfguard maintainers"}, {CreatorType: "Tool", Creator: "nfguard-sbom"}},
			Created:  b.time.Format(time.RFC3339),
		},
	}
	add := func(p spdx.Package, sum, purl, relation string) {
		p.PackageCopyrightText = noAssertion
		p.PackageLicenseConcluded = p.PackageLicenseDeclared
		if p.PackageDownloadLocation == "" {
			p.PackageDownloadLocation = noAssertion
		}
		if sum != "" {
			p.PackageChecksums = []common.Checksum{{Algorithm: common.SHA256, Value: sum}}
		}
		if purl != "" {
			p.PackageExternalReferences = []*spdx.PackageExternalReference{{
				Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: purl,
			}}
		}
		doc.Packages = append(doc.Packages, &p)
		from := common.ElementID("Package-nfguard")
		if relation == common.TypeRelationshipDescribe {
			from = "DOCUMENT"
		}
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{
			RefA: common.DocElementID{ElementRefID: from}, RefB: common.DocElementID{ElementRefID: p.PackageSPDXIdentifier}, Relationship: relation,
		})
	}
	add(spdx.Package{
		PackageName: "nfguard", PackageSPDXIdentifier: "Package-nfguard", PackageVersion: b.version, PackageLicenseDeclared: b.licence,
		PackageDownloadLocation: "git+https://github.com/nfguard/nfguard@v" + b.version, PrimaryPackagePurpose: "APPLICATION",
	}, b.sum, "pkg:golang/github.com/nfguard/nfguard@v"+b.version, common.TypeRelationshipDescribe)
	for i, m := range b.modules {
		add(spdx.Package{
			PackageName: m.path, PackageSPDXIdentifier: common.ElementID(fmt.Sprintf("Package-module-%d", i)), PackageVersion: m.version,
			PackageLicenseDeclared: m.licence, PrimaryPackagePurpose: "LIBRARY",
		}, "", m.purl(), common.TypeRelationshipDependsOn)
	}
	for _, o := range b.objects {
		name := path.Base(o.path)
		add(spdx.Package{
			PackageName: name, PackageSPDXIdentifier: common.ElementID("Package-" + strings.ReplaceAll(name, "_", "-")), PackageVersion: b.version,
			PackageLicenseDeclared: o.licence, PackageSummary: "BPF program, carried in the binary", PrimaryPackagePurpose: "FILE",
		}, o.sum, "", common.TypeRelationshipContains)
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	return append(text, '\n'), err
}

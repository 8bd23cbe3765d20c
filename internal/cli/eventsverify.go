package cli

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/nfguard/nfguard/internal/core/words"
	"github.com/nfguard/nfguard/internal/diag/history"
)

// verifyDocument is what nfguard events --verify found.
type verifyDocument struct {
	Schema   int        `json:"schema"` // 1
	Complete bool       `json:"complete"`
	Records  int        `json:"records"`
	Unlinked int        `json:"unlinked"` // without a number: of an older nfguard, or made up
	Chains   []chainRow `json:"chains"`
	Flaws    []flawRow  `json:"flaws"`       // the first 1,000
	InAll    int        `json:"flaws_total"` // all
}

// chainRow is the records of one boot, or of one nfguard apply.
type chainRow struct {
	Host  string    `json:"hostname"`
	Chain string    `json:"chain"`
	First uint64    `json:"first"` // numbers
	Last  uint64    `json:"last"`
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
}

type flawRow struct {
	Host     string    `json:"hostname"`
	Chain    string    `json:"chain"`
	Sequence uint64    `json:"sequence"`
	Time     time.Time `json:"time"` // of the record that told of it
	Sentence string    `json:"sentence"`
}

// verify tells whether the record is complete.
func (a *app) verify(cmd *cobra.Command, o *eventsOptions) error {
	var refused error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "verify", "journal", "output", "config":
		default:
			refused = &hintError{fmt.Errorf("--verify reads all records, and does not go with --%s", f.Name), "nfguard events --verify, with --journal for others than this host's"}
		}
	})
	if refused == nil && o.form == htmlForm {
		refused = &hintError{errors.New("what --verify tells is no page"), "-o text or -o json"}
	}
	if refused != nil {
		return refused
	}
	sources, err := a.openJournals(a.ctx, o, &history.Filter{})
	defer func() {
		for _, s := range sources {
			s.Close()
		}
	}()
	if err != nil {
		return err
	}
	v := history.NewVerifier()
	for _, s := range sources {
		err := v.Read(s)
		switch {
		case err == nil:
		case a.ctx.Err() != nil:
			return errors.New("interrupted: not everything was read")
		case s.name != "":
			return fmt.Errorf("%s: %w", s.name, err)
		default:
			return err
		}
	}
	p := v.Proof()
	if p.Records == 0 {
		return &hintError{errors.New("there is no record that has a number"), "nfguard events shows the records that there are; --journal names another place"}
	}
	d := &verifyDocument{
		Schema: 1, Complete: p.FlawsInAll == 0, Records: p.Records, Unlinked: p.Unlinked, InAll: p.FlawsInAll,
		Chains: []chainRow{}, Flaws: []flawRow{},
	}
	for _, c := range p.Chains {
		d.Chains = append(d.Chains, chainRow{c.Host, c.ID, c.First, c.Last, c.From, c.To})
	}
	for _, f := range p.Flaws {
		d.Flaws = append(d.Flaws, flawRow{f.Host, f.Chain, f.Number, f.Time, f.What})
	}
	if !d.Complete {
		a.code = exitNo
	}
	return a.show(o.form, d)
}

// mostFlaws is how many flaws are printed; -o json has more.
const mostFlaws = 20

func (d *verifyDocument) write(w io.Writer, s style) {
	what := "none is missing, changed, doubled or out of order between the first and the last of each"
	if !d.Complete {
		what = "not complete"
	}
	fmt.Fprintf(w, "%s in %s, one of each boot and of each nfguard apply: %s\n", words.Count(d.Records, "record"), words.Count(len(d.Chains), "chain"), what)
	for _, f := range d.Flaws[:min(len(d.Flaws), mostFlaws)] {
		writeLine(w, s.bad("flaw   "), fmt.Sprintf("%s  %s  %s", f.Time.Local().Format(time.DateTime), f.Host, f.Sentence))
	}
	if d.InAll > mostFlaws {
		fmt.Fprintf(w, "… and %d more\n", d.InAll-mostFlaws)
	}
	for _, c := range d.Chains {
		fmt.Fprintf(w, "%s: records %d to %d, %s to %s\n", c.Host, c.First, c.Last, c.From.Local().Format(time.DateTime), c.To.Local().Format(time.DateTime))
	}
	if d.Unlinked > 0 {
		fmt.Fprintf(w, "%s without a number: of an nfguard before 0.1.0, or made up by root\n", words.Count(d.Unlinked, "record"))
	}
}

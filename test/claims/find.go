package claims

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/constant"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sort"
	"strings"
)

const module = "github.com/nfguard/nfguard/"

// Claim is a sentence at one place of the code.
type Claim struct {
	Package  string // below internal
	Function string // "Needs.forwarding"
	Text     string // its constant parts; "…" stands between them
	Nth      int    // of those with the same text in the same function, from 0

	number int   // for package said
	force  []set // what takes its condition away
	others []int // the other sentences of the function or table
	alike  []int // those that become the same field or parameter, of other functions
	field  string
	table  bool // it is one of a table, or the first value of a variable, and is passed whatever is printed
	file   string
	line   int
}

// Key tells claims apart, and stays what it is when code moves within a package.
func (c *Claim) Key() string {
	s := c.Package + " " + c.Function + ": " + c.shown()
	if c.Nth > 0 {
		s += fmt.Sprintf(" (%d)", c.Nth+1)
	}
	return s
}

// set is a condition that is always to be so.
type set struct{ site, value int }

// pkg is a package, parsed and type-checked.
type pkg struct {
	path   string
	name   string // below internal
	dir    string
	files  []*ast.File
	names  []string
	source [][]byte
	fset   *token.FileSet
	info   *types.Info
	parent map[ast.Node]ast.Node

	numbers *numbers
	claims  []*Claim
	edits   map[string][]edit
	sites   map[ast.Expr]*site
	next    map[types.Object]bool // functions whose results are next steps, and nothing else
	uses    map[types.Object][]*ast.Ident
	exempt  map[string]bool // functions of [exempt] that were met
}

// load parses and checks packages of the module. The types of what they import
// come from the compiler's own export data.
func load(root string, names []string) ([]*pkg, error) {
	args := []string{"list", "-export", "-deps", "-f", "{{.ImportPath}}\t{{.Export}}\t{{.Dir}}\t{{range .GoFiles}}{{.}} {{end}}"}
	wanted := make(map[string]string)
	for _, n := range names {
		wanted[module+folder(n)] = n
		args = append(args, "./"+folder(n))
	}
	out, err := goTool(root, args...)
	if err != nil {
		return nil, err
	}
	exports := make(map[string]string)
	type listed struct{ path, dir, files string }
	var list []listed
	for _, l := range strings.Split(strings.TrimSpace(out), "\n") {
		f := strings.Split(l, "\t")
		exports[f[0]] = f[1]
		if wanted[f[0]] != "" {
			list = append(list, listed{f[0], f[2], f[3]})
		}
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	var all []*pkg
	for _, l := range list {
		p := &pkg{
			path: l.path, name: wanted[l.path], dir: l.dir, fset: token.NewFileSet(),
			parent: make(map[ast.Node]ast.Node), edits: make(map[string][]edit), sites: make(map[ast.Expr]*site),
			next: make(map[types.Object]bool), uses: make(map[types.Object][]*ast.Ident), exempt: make(map[string]bool),
		}
		for _, name := range strings.Fields(l.files) {
			path := filepath.Join(l.dir, name)
			text, err := os.ReadFile(path)
			if err != nil {
				return nil, err
			}
			f, err := parser.ParseFile(p.fset, path, text, 0)
			if err != nil {
				return nil, err
			}
			p.files, p.names, p.source = append(p.files, f), append(p.names, path), append(p.source, text)
		}
		p.info = &types.Info{Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object), Defs: make(map[*ast.Ident]types.Object)}
		config := types.Config{Importer: importer.ForCompiler(p.fset, "gc", lookup)}
		if _, err := config.Check(l.path, p.fset, p.files, p.info); err != nil {
			return nil, err
		}
		for id, o := range p.info.Uses {
			p.uses[o] = append(p.uses[o], id)
		}
		all = append(all, p)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].name < all[j].name })
	return all, nil
}

// folder is where a package is, by its name.
func folder(name string) string {
	if strings.HasPrefix(name, "test/") {
		return name
	}
	return "internal/" + name
}

func goTool(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args[:2], " "), err, &errs)
	}
	return out.String(), nil
}

// numbers are given to sentences and sites: what one package passes is no other's,
// since a test binary has several.
type numbers struct{ sentences, sites int }

func (n *numbers) site() int {
	n.sites++
	return n.sites
}

func (n *numbers) sentence() int {
	n.sentences++
	return n.sentences
}

// find lists the claims of p in the order of the source.
func (p *pkg) find(n *numbers) {
	p.numbers = n
	for _, f := range p.files {
		var stack []ast.Node
		ast.Inspect(f, func(node ast.Node) bool {
			if node == nil {
				stack = stack[:len(stack)-1]
				return true
			}
			if len(stack) > 0 {
				p.parent[node] = stack[len(stack)-1]
			}
			stack = append(stack, node)
			return true
		})
	}
	p.findNext()
	count := make(map[string]int)
	for i, f := range p.files {
		done := make(map[ast.Expr]bool)
		ast.Inspect(f, func(node ast.Node) bool {
			switch x := node.(type) {
			case *ast.ImportSpec, *ast.Field:
				return false
			case *ast.GenDecl:
				if x.Tok == token.CONST {
					return false
				}
			case *ast.FuncDecl:
				if x.Body == nil {
					return false
				}
			}
			e, ok := node.(ast.Expr)
			if !ok || !p.constant(e) {
				return true
			}
			whole := p.sentence(e)
			if done[whole] {
				return false
			}
			done[whole] = true
			parts := p.parts(whole)
			text := p.text(whole)
			if !p.isSentence(text) || p.noClaim(whole) {
				return false
			}
			c := &Claim{
				Package: p.name, Function: p.function(whole), Text: text,
				number: n.sentence(), file: p.names[i], line: p.fset.Position(whole.Pos()).Line,
			}
			if p.exempted(c) {
				return false
			}
			c.Nth = count[c.Key()]
			count[c.Key()]++
			for _, part := range parts {
				p.wrap(part, fmt.Sprintf("passes.Text(%d, ", c.number), ")")
			}
			c.field, c.table = p.field(whole), p.inTable(whole) || p.overridden(whole)
			c.force = p.guards(whole, make(map[ast.Node]bool))
			p.claims = append(p.claims, c)
			return false
		})
	}
	for _, c := range p.claims {
		for _, o := range p.claims {
			if o != c && o.Function == c.Function && o.Text != c.Text {
				c.others = append(c.others, o.number)
			}
			if o.Function != c.Function && o.Text != c.Text && o.field == c.field && c.field != "" {
				c.alike = append(c.alike, o.number)
			}
		}
	}
}

// constant reports whether e is a constant string, and of no type that is an enumeration.
func (p *pkg) constant(e ast.Expr) bool {
	tv, ok := p.info.Types[e]
	if !ok || tv.Value == nil || tv.Value.Kind() != constant.String {
		return false
	}
	_, basic := tv.Type.(*types.Basic)
	return basic
}

// sentence is the longest + chain that e is part of.
func (p *pkg) sentence(e ast.Expr) ast.Expr {
	for {
		switch x := p.parent[e].(type) {
		case *ast.BinaryExpr:
			if x.Op != token.ADD {
				return e
			}
			e = x
		case *ast.ParenExpr:
			e = x
		default:
			return e
		}
	}
}

// parts are the constant operands of a chain.
func (p *pkg) parts(e ast.Expr) []ast.Expr {
	if p.constant(e) {
		return []ast.Expr{e}
	}
	switch x := e.(type) {
	case *ast.BinaryExpr:
		if x.Op == token.ADD {
			return append(p.parts(x.X), p.parts(x.Y)...)
		}
	case *ast.ParenExpr:
		return p.parts(x.X)
	}
	return nil
}

func (p *pkg) text(e ast.Expr) string {
	if p.constant(e) {
		return constant.StringVal(p.info.Types[e].Value)
	}
	switch x := e.(type) {
	case *ast.BinaryExpr:
		if x.Op == token.ADD {
			return p.text(x.X) + p.text(x.Y)
		}
	case *ast.ParenExpr:
		return p.text(x.X)
	}
	return "…"
}

var (
	word      = regexp.MustCompile(`[A-Za-z]{2,}`)
	tag       = regexp.MustCompile(`<[^>]*>`)
	verb      = regexp.MustCompile(`%[-+# 0-9.*]*[a-zA-Z]`)
	messageID = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// isSentence reports whether a text says something: two words, with a blank in it;
// or what stands for a text of the message catalog.
func (p *pkg) isSentence(s string) bool {
	if messageID.MatchString(s) {
		return true
	}
	plain := verb.ReplaceAllString(tag.ReplaceAllString(s, " "), "%")
	return len(word.FindAllString(plain, -1)) >= 2 && strings.Contains(strings.TrimSpace(plain), " ")
}

// function is the name of the function that a node is in, or of the variable.
func (p *pkg) function(n ast.Node) string {
	for ; n != nil; n = p.parent[n] {
		switch x := n.(type) {
		case *ast.FuncDecl:
			return funcName(x)
		case *ast.ValueSpec:
			if _, top := p.parent[p.parent[x]].(*ast.File); top {
				return x.Names[0].Name
			}
		}
	}
	return ""
}

// inTable reports whether a node is in a variable of the package and in no function,
// or in a list that a function returns or picks one from.
func (p *pkg) inTable(n ast.Node) bool {
	for ; n != nil; n = p.parent[n] {
		switch x := n.(type) {
		case *ast.FuncDecl:
			return false
		case *ast.CompositeLit:
			switch p.parent[x].(type) {
			case *ast.ReturnStmt, *ast.IndexExpr:
				if len(x.Elts) > 1 {
					return true
				}
			}
		}
	}
	return true
}

func funcName(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return f.Name.Name
	}
	t := f.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if i, ok := t.(*ast.IndexExpr); ok {
		t = i.X
	}
	return t.(*ast.Ident).Name + "." + f.Name.Name
}

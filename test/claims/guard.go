package claims

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"slices"
)

// site is a condition, or what a switch compares, that package said passes.
type site struct{ number int }

// guards is what takes the condition of a sentence away: the branch of the
// innermost block that it stands in, and what leaves that block before it. A
// sentence without a condition of its own in its function has those of the calls
// of that function in its package.
func (p *pkg) guards(n ast.Node, seen map[ast.Node]bool) []set {
	for ; n != nil; n = p.parent[n] {
		var list []set
		switch b := p.parent[n].(type) {
		case *ast.BlockStmt:
			list = slices.Concat(p.leavers(b.List, n), p.overriders(b.List, n), p.branch(b))
		case *ast.CaseClause:
			if s, ok := n.(ast.Stmt); ok {
				list = slices.Concat(p.leavers(b.Body, s), p.overriders(b.Body, s), p.clause(b))
			}
		case *ast.IfStmt: // the else of one
			if n == b.Else {
				list = append(list, set{p.cond(b.Cond), 0})
			}
		case *ast.FuncDecl:
			return p.calls(b, seen)
		}
		if f, ok := n.(*ast.FuncLit); ok && len(list) == 0 {
			list = p.passed(f, seen)
		}
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

// passed is, of a function that is passed to one of the package, what leads to its
// call there.
func (p *pkg) passed(f *ast.FuncLit, seen map[ast.Node]bool) []set {
	call, ok := p.parent[f].(*ast.CallExpr)
	if !ok {
		return nil
	}
	o, ok := p.callee(call).(*types.Func)
	if !ok || o.Pkg().Path() != p.path {
		return nil
	}
	params := o.Type().(*types.Signature).Params()
	var list []set
	for i, a := range call.Args {
		if a != f || i >= params.Len() {
			continue
		}
		for _, id := range p.uses[params.At(i)] {
			list = append(list, p.guards(id, seen)...)
		}
	}
	return list
}

// branch is what leads into a block.
func (p *pkg) branch(b *ast.BlockStmt) []set {
	if r, ok := p.parent[b].(*ast.RangeStmt); ok {
		return p.loop(r)
	}
	i, ok := p.parent[b].(*ast.IfStmt)
	if !ok {
		return nil
	}
	var list []set
	if b == i.Body {
		list = append(list, set{p.cond(i.Cond), 1})
	} else {
		list = append(list, set{p.cond(i.Cond), 0})
	}
	for { // of a chain: those before are not so
		up, ok := p.parent[i].(*ast.IfStmt)
		if !ok || up.Else != ast.Stmt(i) {
			return list
		}
		list = append(list, set{p.cond(up.Cond), 0})
		i = up
	}
}

// loop is what leads into a loop over a list: that there is one thing in it.
func (p *pkg) loop(r *ast.RangeStmt) []set {
	if _, ok := p.info.Types[r.X].Type.Underlying().(*types.Slice); !ok {
		return nil
	}
	if s := p.sites[r.X]; s != nil {
		return []set{{s.number, 1}}
	}
	s := &site{number: p.numbers.site()}
	p.sites[r.X] = s
	p.wrap(r.X, fmt.Sprintf("passes.Range(%d, ", s.number), ")")
	return []set{{s.number, 1}}
}

// clause is what leads into a clause of a switch.
func (p *pkg) clause(c *ast.CaseClause) []set {
	block, ok := p.parent[c].(*ast.BlockStmt)
	if !ok {
		return nil
	}
	sw, ok := p.parent[block].(*ast.SwitchStmt)
	if !ok {
		return nil // of types
	}
	return p.enter(sw, c)
}

func (p *pkg) enter(sw *ast.SwitchStmt, c *ast.CaseClause) []set {
	if sw.Tag != nil {
		n := 0
		for _, s := range sw.Body.List {
			other := s.(*ast.CaseClause)
			if other == c && c.List != nil {
				return []set{{p.tag(sw), n}}
			}
			if other.List != nil {
				n++
			}
		}
		return []set{{p.tag(sw), 1 << 10}}
	}
	var list []set
	for _, s := range sw.Body.List {
		other := s.(*ast.CaseClause)
		if other == c && c.List != nil {
			return append(list, set{p.cond(other.List[0]), 1})
		}
		for _, e := range other.List {
			list = append(list, set{p.cond(e), 0})
		}
	}
	return list
}

// leavers are the conditions before n in a list of statements on which the block
// is left before it comes to n.
func (p *pkg) leavers(stmts []ast.Stmt, n ast.Node) []set {
	var list []set
	for _, s := range stmts {
		if s == n {
			break
		}
		list = append(list, p.leaver(s)...)
	}
	return list
}

// overriders are the conditions after n in a list of statements on which another
// value is put in the place of the one that n gives a variable.
func (p *pkg) overriders(stmts []ast.Stmt, n ast.Node) []set {
	a, ok := n.(*ast.AssignStmt)
	if !ok {
		return nil
	}
	given := make(map[types.Object]bool)
	for _, l := range a.Lhs {
		if o := p.variable(l); o != nil {
			given[o] = true
		}
	}
	var list []set
	for i := slices.Index(stmts, ast.Stmt(a)) + 1; i > 0 && i < len(stmts); i++ {
		for s, ok := stmts[i].(*ast.IfStmt); ok; s, ok = s.Else.(*ast.IfStmt) {
			for _, inner := range s.Body.List {
				if o, ok := inner.(*ast.AssignStmt); ok && o.Tok == token.ASSIGN && len(o.Lhs) == 1 && given[p.variable(o.Lhs[0])] {
					list = append(list, set{p.cond(s.Cond), 0})
				}
			}
		}
	}
	return list
}

// overridden reports whether the statement that n is in gives a variable a value that
// others may replace.
func (p *pkg) overridden(n ast.Node) bool {
	for ; n != nil; n = p.parent[n] {
		switch b := p.parent[n].(type) {
		case *ast.BlockStmt:
			return len(p.overriders(b.List, n)) > 0
		case *ast.CaseClause:
			return len(p.overriders(b.Body, n)) > 0
		}
	}
	return false
}

func (p *pkg) variable(e ast.Expr) types.Object {
	id, ok := e.(*ast.Ident)
	if !ok {
		return nil
	}
	if o := p.info.Defs[id]; o != nil {
		return o
	}
	return p.info.Uses[id]
}

func (p *pkg) leaver(s ast.Stmt) []set {
	var list []set
	switch x := s.(type) {
	case *ast.IfStmt:
		if leavesBlock(x.Body.List) {
			list = append(list, set{p.cond(x.Cond), 0})
		}
		if e, ok := x.Else.(*ast.IfStmt); ok {
			list = append(list, p.leaver(e)...)
		}
	case *ast.SwitchStmt:
		if x.Tag != nil {
			for _, c := range x.Body.List {
				if c := c.(*ast.CaseClause); leavesBlock(c.Body) && c.List != nil {
					return []set{{p.tag(x), 1 << 10}}
				}
			}
			return nil
		}
		for _, c := range x.Body.List {
			if c := c.(*ast.CaseClause); leavesBlock(c.Body) {
				for _, e := range c.List {
					list = append(list, set{p.cond(e), 0})
				}
			}
		}
	case *ast.RangeStmt: // a loop that finds something and returns
		for _, inner := range x.Body.List {
			if i, ok := inner.(*ast.IfStmt); ok && returns(i.Body.List) {
				list = append(list, set{p.cond(i.Cond), 0})
			}
		}
	}
	return list
}

func returns(stmts []ast.Stmt) bool {
	if len(stmts) == 0 {
		return false
	}
	_, ok := stmts[len(stmts)-1].(*ast.ReturnStmt)
	return ok
}

// leavesBlock reports whether statements end by going elsewhere.
func leavesBlock(stmts []ast.Stmt) bool {
	if len(stmts) == 0 {
		return false
	}
	switch x := stmts[len(stmts)-1].(type) {
	case *ast.ReturnStmt:
		return true
	case *ast.BranchStmt:
		return x.Tok == token.CONTINUE || x.Tok == token.BREAK && x.Label != nil
	}
	return false
}

// calls is what takes away the conditions under which a function is called, or the
// place where it is referred to.
func (p *pkg) calls(f *ast.FuncDecl, seen map[ast.Node]bool) []set {
	if seen[f] {
		return nil
	}
	seen[f] = true
	var list []set
	for _, id := range p.uses[p.info.Defs[f.Name]] {
		list = append(list, p.guards(id, seen)...)
	}
	return list
}

// cond has package said pass a condition, and returns its site.
func (p *pkg) cond(e ast.Expr) int {
	if s := p.sites[e]; s != nil {
		return s.number
	}
	s := &site{number: p.numbers.site()}
	p.sites[e] = s
	p.wrap(e, fmt.Sprintf("passes.Cond(%d, ", s.number), ")")
	return s.number
}

// tag has package said pass what a switch compares.
func (p *pkg) tag(sw *ast.SwitchStmt) int {
	if s := p.sites[sw.Tag]; s != nil {
		return s.number
	}
	s := &site{number: p.numbers.site()}
	p.sites[sw.Tag] = s
	values := ""
	for _, c := range sw.Body.List {
		if c := c.(*ast.CaseClause); c.List != nil {
			values += ", " + p.code(c.List[0])
		}
	}
	p.wrap(sw.Tag, fmt.Sprintf("passes.Tag[%s](%d, ", p.typeName(sw.Tag), s.number), values+")")
	return s.number
}

// typeName is a type as the package itself writes it.
func (p *pkg) typeName(e ast.Expr) string {
	return types.TypeString(p.info.Types[e].Type, func(other *types.Package) string {
		if other.Path() == p.path {
			return ""
		}
		return other.Name()
	})
}

// edit is text that is put around something.
type edit struct {
	at    int
	text  string
	close bool
	width int // of what it is around
}

func (p *pkg) wrap(e ast.Expr, before, after string) {
	start, end := p.fset.Position(e.Pos()), p.fset.Position(e.End())
	width := end.Offset - start.Offset
	p.edits[start.Filename] = append(p.edits[start.Filename],
		edit{start.Offset, before, false, width}, edit{end.Offset, after, true, width})
}

func (p *pkg) code(e ast.Expr) string {
	start, end := p.fset.Position(e.Pos()), p.fset.Position(e.End())
	for i, name := range p.names {
		if name == start.Filename {
			return string(p.source[i][start.Offset:end.Offset])
		}
	}
	return ""
}

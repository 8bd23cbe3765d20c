package claims

import (
	"go/ast"
	"go/token"
	"go/types"
	"strings"
)

// What is no claim about the node, by where it stands in the code. The list is
// short, so that whatever else has two words is a claim until somebody argues
// that it is not.
//
//   - an error: an argument of errors.New or fmt.Errorf, a value of a type that is
//     one, or in a method Error. It says what nfguard could not do.
//   - a next step: what becomes a field, a variable, a parameter or a result whose
//     name ends in "next", or the result of a function that is used for nothing
//     else. It says what a person can do.
//   - a name, or a wish: what becomes a field What or Want.
//   - a log line, or the name of a step: an argument of slog's, or of package step.
//   - what is compared with, searched for or cut off: it is read, and not said.
//   - what the functions of [exempt] write.

// noClaim reports whether what e becomes part of is no statement about the node.
func (p *pkg) noClaim(e ast.Expr) bool {
	return p.role(e, func(n ast.Node) bool { return p.isRole(n) })
}

// role climbs from an expression to what it becomes part of, and reports whether
// that is so.
func (p *pkg) role(e ast.Node, is func(ast.Node) bool) bool {
	for n := e; n != nil; n = p.parent[n] {
		if is(n) {
			return true
		}
		switch p.parent[n].(type) {
		case ast.Stmt, *ast.FuncDecl:
			return is(p.parent[n]) || p.isStatementRole(n)
		}
	}
	return false
}

func isNext(name string) bool { return strings.HasSuffix(strings.ToLower(name), "next") }

// isName reports whether what becomes a field of that name is no statement.
func isName(field string) bool { return isNext(field) || field == "What" || field == "Want" }

var errorType = types.Universe.Lookup("error").Type().Underlying().(*types.Interface)

// field is the name of the field, the parameter or the result of a method that e becomes,
// or a part of it; "" where it has none.
func (p *pkg) field(e ast.Node) string {
	for n := e; n != nil; n = p.parent[n] {
		switch x := p.parent[n].(type) {
		case *ast.KeyValueExpr:
			if id, ok := x.Key.(*ast.Ident); ok && n == x.Value {
				return id.Name
			}
		case *ast.AssignStmt:
			for i, v := range x.Rhs {
				if v == n && len(x.Lhs) == len(x.Rhs) {
					if s, ok := x.Lhs[i].(*ast.SelectorExpr); ok {
						return s.Sel.Name
					}
				}
			}
			return ""
		case *ast.CallExpr:
			if f, ok := p.callee(x).(*types.Func); ok && f.Pkg() != nil && f.Pkg().Path() == p.path {
				params := f.Type().(*types.Signature).Params()
				for i, a := range x.Args {
					if a == n && i < params.Len() {
						return params.At(i).Name()
					}
				}
			}
		case *ast.ReturnStmt: // methods of one name say the same kind of thing
			name := p.function(x)
			return "return of " + name[strings.LastIndex(name, ".")+1:]
		case ast.Stmt:
			return ""
		}
	}
	return ""
}

// isRole judges one step of the climb: n within its parent.
func (p *pkg) isRole(n ast.Node) bool {
	switch x := p.parent[n].(type) {
	case *ast.KeyValueExpr:
		if id, ok := x.Key.(*ast.Ident); ok && n == x.Value && isName(id.Name) {
			return true
		}
		return n == x.Key
	case *ast.IndexExpr:
		return n == x.Index
	case *ast.ValueSpec:
		for i, v := range x.Values {
			if v == n && isNext(x.Names[min(i, len(x.Names)-1)].Name) {
				return true
			}
		}
	case *ast.CaseClause:
		for _, e := range x.List {
			if e == n {
				return true
			}
		}
	case *ast.BinaryExpr:
		switch x.Op {
		case token.EQL, token.NEQ, token.LSS, token.GTR, token.LEQ, token.GEQ:
			return true
		}
	case *ast.CompositeLit:
		return p.positional(x, n)
	case *ast.CallExpr:
		return p.argument(x, n)
	}
	return false
}

// positional reports whether n is an element of a struct whose field is a next step.
func (p *pkg) positional(x *ast.CompositeLit, n ast.Node) bool {
	t := p.info.Types[x].Type
	if types.Implements(types.NewPointer(t), errorType) {
		return true
	}
	s, ok := t.Underlying().(*types.Struct)
	if !ok {
		return false
	}
	for i, e := range x.Elts {
		if e == n {
			return i < s.NumFields() && isName(s.Field(i).Name())
		}
	}
	return false
}

// argument reports whether n is passed to what makes it no claim.
func (p *pkg) argument(call *ast.CallExpr, n ast.Node) bool {
	at := -1
	for i, a := range call.Args {
		if a == n {
			at = i
		}
	}
	o := p.callee(call)
	if o == nil || at < 0 {
		return false
	}
	if b, ok := o.(*types.Builtin); ok {
		return b.Name() == "panic"
	}
	sig, ok := o.Type().Underlying().(*types.Signature)
	if !ok {
		return false
	}
	if params := sig.Params(); params.Len() > 0 && isNext(params.At(min(at, params.Len()-1)).Name()) {
		return true
	}
	if o.Pkg() == nil {
		return false
	}
	switch o.Pkg().Path() {
	case "errors", "log/slog", "regexp", "os/exec", "bytes", module + "internal/core/step":
		return true
	case "fmt":
		return o.Name() == "Errorf" || strings.HasPrefix(o.Name(), "Sscan")
	case "strings":
		switch o.Name() {
		case "Contains", "HasPrefix", "HasSuffix", "Index", "Cut", "CutPrefix", "CutSuffix", "TrimPrefix", "TrimSuffix", "ContainsAny", "Split", "TrimLeft", "TrimRight", "Trim", "EqualFold", "LastIndex", "Count", "SplitN", "IndexAny":
			return true
		}
		return false
	}
	return false
}

// callee is the function that is called, as far as it has a name.
func (p *pkg) callee(call *ast.CallExpr) types.Object {
	switch f := ast.Unparen(call.Fun).(type) {
	case *ast.Ident:
		return p.info.Uses[f]
	case *ast.SelectorExpr:
		return p.info.Uses[f.Sel]
	}
	return nil
}

// isStatementRole judges n, which is a direct part of a statement.
func (p *pkg) isStatementRole(n ast.Node) bool {
	switch x := p.parent[n].(type) {
	case *ast.AssignStmt:
		for i, v := range x.Rhs {
			if v == n && len(x.Lhs) == len(x.Rhs) {
				return isName(lhsName(x.Lhs[i])) || p.ofError(x.Lhs[i])
			}
		}
	case *ast.ReturnStmt:
		return p.returned(x, n)
	case *ast.SwitchStmt:
		return n == x.Tag
	}
	return false
}

// ofError reports whether e is a field of an error.
func (p *pkg) ofError(e ast.Expr) bool {
	s, ok := e.(*ast.SelectorExpr)
	return ok && types.Implements(p.info.Types[s.X].Type, errorType)
}

func lhsName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.Ident:
		return x.Name
	case *ast.SelectorExpr:
		return x.Sel.Name
	}
	return ""
}

// returned reports whether n is a result that is a next step, or an error's text.
func (p *pkg) returned(r *ast.ReturnStmt, n ast.Node) bool {
	for f := p.parent[ast.Node(r)]; f != nil; f = p.parent[f] {
		switch x := f.(type) {
		case *ast.FuncLit:
			return false
		case *ast.FuncDecl:
			o := p.info.Defs[x.Name]
			if x.Name.Name == "Error" || isNext(x.Name.Name) || p.next[o] {
				return true
			}
			for i, v := range r.Results {
				sig := o.Type().(*types.Signature)
				if v == n && i < sig.Results().Len() && isNext(sig.Results().At(i).Name()) {
					return true
				}
			}
			return false
		}
	}
	return false
}

// findNext finds the functions that are called for next steps and nothing else,
// and the functions that only those call.
func (p *pkg) findNext() {
	for changed := true; changed; {
		changed = false
		for _, f := range p.files {
			for _, d := range f.Decls {
				fd, ok := d.(*ast.FuncDecl)
				if !ok || fd.Name.IsExported() {
					continue
				}
				o := p.info.Defs[fd.Name]
				uses := p.uses[o]
				if p.next[o] || len(uses) == 0 || fd.Type.Results == nil {
					continue
				}
				all := true
				for _, id := range uses {
					var call ast.Node = id
					if s, ok := p.parent[call].(*ast.SelectorExpr); ok {
						call = s
					}
					c, ok := p.parent[call].(*ast.CallExpr)
					all = all && ok && c.Fun == call && p.noClaim(c)
				}
				if all {
					p.next[o], changed = true, true
				}
			}
		}
	}
}

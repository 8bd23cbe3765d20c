package main
import ("fmt";"github.com/nfguard/nfguard/test/cluster/programs")
func main(){ d,_:=programs.Dir(); fmt.Println(d)}

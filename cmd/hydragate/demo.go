package main

type demoCmd struct{}

type chatCmd struct{}

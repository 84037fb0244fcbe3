// A function in Go; README.md says how it is built and run.
package main

import "github.com/aws/aws-lambda-go/lambda"

type task struct {
	Numbers []int `json:"numbers"`
}

type result struct {
	Sum int    `json:"sum"`
	By  string `json:"by"`
}

func add(event task) (result, error) {
	sum := 0
	for _, number := range event.Numbers {
		sum += number
	}
	return result{Sum: sum, By: "go"}, nil
}

func main() {
	lambda.Start(add)
}

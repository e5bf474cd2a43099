import sys, requests
answer = requests.get(sys.argv[1])
answer.raise_for_status()
sys.stdout.buffer.write(answer.content)

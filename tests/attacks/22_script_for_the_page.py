# 22. A script, a handler and a foreign link, in what is printed and in the exception.
# expect 03.3 error

# %% 03.3
print("<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:alert(1)'>here</a>")


class Script(Exception):
    pass


Script.__name__ = "<script>alert(2)</script>"


def what_moves(gradient, train_mode, in_optimizer):
    raise Script("</pre><script>alert(3)</script><svg onload=alert(4)>")

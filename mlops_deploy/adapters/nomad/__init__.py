"""A Nomad cluster. In which module to look.

* the way there: `settings`, `session` and `unix`, `client`, `execution`, `logs`; what goes wrong: `errors`, `rights`
* the state of a service: `book` and `pages` hold it, `writing` decides, `ledger` sets it, `keeper` is the port
* slots: `slot_job`, `allocations` and `placement` judge without asking, `slots` and `volumes` act, `target` is the port
* the router: `router_start` judges, `router` acts; without slots and router: `rolling`
* beforehand: `differences` and `forecasting` for a plan, `checking` for a file, `collecting` for images
"""
